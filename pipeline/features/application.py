"""Images as the vectors that a model of `keras.applications` makes of them, with Keras' weights.

What a user would do by hand goes into one model, which is saved beside the shards: grey to RGB, the
model's size, its own preprocessing, its layers without the classifier, the mean over all places. So
`assign` does the same to new images, wherever it runs, and without a download.
"""

import dataclasses
import difflib
import functools
import importlib
import io
import json
import os
import re
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.keras_model import Embedding, first_line, load_embedding
from pipeline.sources.pictures.decode import shape_text
from pipeline.terminal import without_loading_lines

SIZE = 224  # of the images that most models were trained on
SIZES = {
    **{
        f"EfficientNetB{n}": size for n, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{f"EfficientNetV2B{n}": size for n, size in enumerate((224, 240, 260, 300))},
    **{"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480},
    **dict.fromkeys(("InceptionV3", "InceptionResNetV2", "Xception"), 299),
    "NASNetLarge": 331,
}
# So that a model that is saved again has the same bytes.
_SHARED = re.compile(rb'("shared_object_id": )(\d+)')
_NO_TIME, _NO_DATE = (1980, 1, 1, 0, 0, 0), "1980-01-01@00:00:00"


@dataclasses.dataclass(frozen=True)
class ApplicationFeature:
    """What an image model of Keras makes of images: `--transform keras:MobileNetV3Small`."""

    name: str
    file: ClassVar[str] = "transform.keras"
    original: ClassVar[None] = None
    is_drawable: ClassVar[bool] = False

    def image_size(self) -> tuple[int, int]:
        """Returns the size that the model takes; raises UserError if there is no such model."""
        _application(self.name)
        side = SIZES.get(self.name, SIZE)
        return side, side

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the length of the model's vectors.

        Raises:
          UserError: there is no such model, its weights cannot be had, or it takes no such images.
        """
        return _made(self.name, image_shape, dtype).num_features

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Writes the model for such images; equal bytes each time."""
        storage.write_bytes(path, _made(self.name, image_shape, dtype).content)
        _made.cache_clear()  # it may take hundreds of megabytes

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> Embedding:
        """Loads the model that `save` wrote."""
        return load_embedding(path, image_shape, dtype, one_by_one=True)


class Made(NamedTuple):
    """A model that is ready to be saved.

    Attributes:
      content: of its file.
      num_features: length of its vectors.
    """

    content: bytes
    num_features: int


@functools.lru_cache(maxsize=1)  # its length is asked for, and then it is saved
def _made(name: str, image_shape: tuple[int, ...], dtype: str) -> Made:
    application, preprocess = _application(name)
    if len(image_shape) not in (2, 3) or image_shape[2:] not in ((), (1,), (3,)):
        raise UserError(
            f"--transform keras:{name}: takes grey or RGB images, these are of "
            f"{shape_text(image_shape)}"
        )
    size = SIZES.get(name, SIZE)

    def make() -> Made:
        import keras

        keras.config.disable_interactive_logging()
        core = application(
            include_top=False, weights="imagenet", input_shape=(size, size, 3), pooling="avg"
        )
        inputs = keras.Input(image_shape, dtype=dtype, name="images")
        model = keras.Model(inputs, core(preprocess(_resized(inputs, size, dtype))), name=name)
        return Made(_saved(model), model.output_shape[-1])

    # In a thread of its own: Keras counts the names of layers, and keeps its settings, by thread.
    # So the names do not depend on what else was built, and nothing of the caller's is changed.
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(make).result()
    except Exception as error:  # Keras raises Exception itself where it cannot download
        reason = _without_weights(error) or first_line(error)
        raise UserError(f"--transform keras:{name}: {reason}") from error


def _resized(images: Any, size: int, dtype: str) -> Any:
    """Makes RGB images of one size, float32 in 0 … 255, of those of a set, symbolically."""
    from keras import layers

    if len(images.shape) == 3:
        images = layers.Reshape((*images.shape[1:], 1), name="channel")(images)
    # Float images are in 0 … 1.
    images = layers.Rescaling(1.0 if dtype == "uint8" else 255.0, name="levels")(images)
    if images.shape[3] == 1:
        images = layers.Concatenate(name="rgb")([images] * 3)
    height, width = images.shape[1:3]
    if (height, width) != (size, size):
        smaller = height > size or width > size
        images = layers.Resizing(size, size, antialias=smaller, name="size")(images)
    return images


def _saved(model: Any) -> bytes:
    """Returns the content of a .keras file, without what differs each time."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := os.path.join(folder, "model.keras"))
        target = io.BytesIO()
        with zipfile.ZipFile(path) as found, zipfile.ZipFile(target, "w") as timeless:
            for name in found.namelist():
                data = found.read(name)
                if name == "metadata.json":
                    data = json.dumps({**json.loads(data), "date_saved": _NO_DATE}).encode()
                if name == "config.json":
                    data = _with_small_numbers(data)
                timeless.writestr(zipfile.ZipInfo(name, _NO_TIME), data)
    return target.getvalue()


def _with_small_numbers(config: bytes) -> bytes:
    """Numbers the objects that layers share, which Keras numbers by their places in memory."""
    numbers: dict[bytes, int] = {}
    return _SHARED.sub(
        lambda found: found[1] + b"%d" % numbers.setdefault(found[2], len(numbers)), config
    )


def _application(name: str) -> tuple[Callable[..., Any], Callable[[Any], Any]]:
    """Finds an image model of Keras, and its preprocessing.

    Raises:
      UserError: there is no such model; the message names the nearest one.
    """
    with without_loading_lines():
        from keras import applications
    models = {
        key: getattr(applications, key)
        for key in vars(applications)
        if key[0].isupper() and callable(getattr(applications, key))
    }
    if name in models:
        module = models[name].__module__.rpartition(".")[2]
        home = importlib.import_module(f"{applications.__name__}.{module}")
        return models[name], home.preprocess_input
    by_small = {key.lower(): key for key in models}
    near = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=0.5)
    hint = (
        f"did you mean {by_small[near[0]]}?" if near else f"there are {', '.join(sorted(models))}"
    )
    raise UserError(
        f"--transform keras:{name}: no image model of keras.applications: {hint} (a model of your "
        "own is a .keras or .h5 file)"
    )


def _without_weights(error: BaseException) -> str | None:
    """Says which file of weights Keras could not download; None if that is not what is wrong.

    Keras names the address only. Where it would have put the file, and under which name, is known
    in the function that failed.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "get_file" and "download_target" in frame.f_locals:
            folder, file = os.path.split(frame.f_locals["download_target"])
            return (
                f"its weights cannot be downloaded; put {file} into {folder} (it comes from "
                f"{frame.f_locals['origin']})"
            )
    return None

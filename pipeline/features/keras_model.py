"""Images as the vectors that a saved Keras model makes of them.

TensorFlow takes seconds to load, so it is imported where a model is loaded, not before.
"""

import dataclasses
import functools
import hashlib
import math
import os
import shutil
import tempfile
import zipfile
from typing import Any, ClassVar

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import KINDS, Feature
from pipeline.shards import plan
from pipeline.terminal import without_loading_lines

ENDINGS = KINDS["keras"].endings
BATCH = 256  # small images that a model is applied to at a time
LARGE, LARGE_BATCH = 1 << 14, 32  # numbers of a large image; so many are in memory at a time
PARALLEL = 32  # large images that are computed at the same time, if there are as many cores


@dataclasses.dataclass(frozen=True)
class KerasFeature:
    """The output of a Keras model in a .keras or .h5 file: `--transform keras:PATH`."""

    original: str
    is_drawable: ClassVar[bool] = False

    @property
    def file(self) -> str:
        return f"transform{os.path.splitext(self.original)[1]}"

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the length of the model's vectors; raises UserError if it takes no such images.

        It has to load the model and to apply it once.
        """
        return load_embedding(self.original, image_shape, dtype).num_features

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Copies the model to `path`."""
        storage.copy(self.original, path)

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Embedding":
        """Loads the model from its copy at `path`."""
        return load_embedding(path, image_shape, dtype)


def keras_feature(value: str) -> Feature:
    """Makes the feature of `--transform keras:VALUE`, a path or the name of an application."""
    if value.endswith(ENDINGS) or not value.isidentifier():
        return KerasFeature(value)
    from pipeline.features.application import ApplicationFeature

    return ApplicationFeature(value)


class Embedding:
    """A Keras model that makes one vector of each image.

    Libraries add in an order that depends on how many images there are, and on an image's place
    among them. So large images are computed one by one, in parallel, which costs nothing: the
    vector of an image depends on nothing else. Of small ones there are always BATCH.

    Attributes:
      batch: number of images that the model is applied to at a time.
      num_features: length of the vectors.
    """

    def __init__(
        self, model: Any, image_shape: tuple[int, ...], dtype: str, one_by_one: bool = False
    ):
        """Prepares `model` for images of a shape and dtype.

        Args:
          one_by_one: treats small images as large ones.

        Raises:
          ValueError: it does not take them; the text says why.
        """
        import tensorflow as tf

        inputs = getattr(model, "inputs", None) or []
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs; one is needed")
        self._shape = _input_shape(tuple(inputs[0].shape)[1:], image_shape)
        self._one_by_one = one_by_one or math.prod(self._shape) >= LARGE
        self.batch = LARGE_BATCH if self._one_by_one else BATCH
        self._dtype = tf.as_dtype(inputs[0].dtype)
        # Models of bytes have the scaling in them, as Keras' applications do.
        as_they_are = dtype != "uint8" or self._dtype == tf.uint8
        self._scale = np.float32(1 if as_they_are else 255)
        count = None if self._one_by_one else BATCH
        self._outputs = tf.function(
            lambda images: tf.nest.flatten(model(images, training=False)),
            input_signature=[
                tf.TensorSpec((1 if self._one_by_one else BATCH, *self._shape), self._dtype)
            ],
            autograph=False,
        )
        self._run = tf.function(
            self._each if self._one_by_one else lambda images: self._outputs(images)[0],
            input_signature=[tf.TensorSpec((count, *self._shape), self._dtype)],
            autograph=False,
        )
        self.num_features = self._length(math.prod(image_shape), dtype)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Makes vectors, float32 [B, num_features], of images [B, d]."""
        parts = plan.spans(0, len(pixels), self.batch)
        return np.concatenate([self._vectors(pixels[start:stop]) for start, stop in parts])

    def _vectors(self, pixels: np.ndarray) -> np.ndarray:
        count = len(pixels)
        if not self._one_by_one and (missing := BATCH - count):
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
        images = pixels if self._scale == 1 else pixels / self._scale
        images = images.reshape(len(images), *self._shape)
        vectors = self._run(images.astype(self._dtype.as_numpy_dtype, copy=False))
        return vectors.numpy()[:count].astype("<f4")

    def _each(self, images: Any) -> Any:
        """Applies the model to each of some images, several at the same time."""
        import tensorflow as tf

        return tf.map_fn(
            lambda image: tf.cast(self._outputs(image[tf.newaxis])[0][0], tf.float32),
            images,
            parallel_iterations=PARALLEL,
            fn_output_signature=tf.float32,
        )

    def _length(self, num_pixels: int, dtype: str) -> int:
        outputs = self._outputs.get_concrete_function().structured_outputs
        if len(outputs) != 1:
            raise ValueError(f"it has {len(outputs)} outputs; one is needed")
        if len(outputs[0].shape) != 2:
            shape = " × ".join(
                "any" if size is None else str(size) for size in outputs[0].shape[1:]
            )
            raise ValueError(
                f"it makes {shape or 'one number'} of each image; a vector is needed, so end it "
                "with GlobalAveragePooling2D or Flatten"
            )
        if length := outputs[0].shape[1]:
            return length
        # A model may leave open how long its vectors are.
        return self.apply(np.zeros((1, num_pixels), dtype)).shape[1]


def load_embedding(
    path: str, image_shape: tuple[int, ...], dtype: str, one_by_one: bool = False
) -> Embedding:
    """Loads the model saved at `path`, a .keras or .h5 file, for images of a shape and dtype.

    It gets uint8 images as float32 in 0 … 1, or unchanged if its input is uint8.

    Args:
      one_by_one: treats small images as large ones.

    Raises:
      UserError: there is none, or it does not take such images.
    """
    ending = os.path.splitext(path)[1]
    if ending not in ENDINGS:
        raise UserError(
            f"--transform keras:{path}: a Keras model is a {' or '.join(ENDINGS)} file; save it "
            "with model.save('model.keras')"
        )
    if absence := storage.absence(path):
        raise UserError(f"--transform keras:{path}: {absence}")
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, f"model{ending}")
        with storage.open_read(path) as source, open(local, "wb") as target:
            shutil.copyfileobj(source, target)
        with open(local, "rb") as copied:
            digest = hashlib.file_digest(copied, "sha256").hexdigest()
        return _embedding(Copy(digest, local, path), image_shape, dtype, one_by_one)


@dataclasses.dataclass(frozen=True)
class Copy:
    """A model's file on disk; copies of the same content are equal."""

    digest: str
    local: str = dataclasses.field(compare=False)
    path: str = dataclasses.field(compare=False)


# The length of its vectors is asked for, by each part of a chain, before it is applied; and where
# it lies meanwhile changes. Loading takes seconds, so the last one is kept.
@functools.lru_cache(maxsize=1)
def _embedding(copy: Copy, image_shape: tuple[int, ...], dtype: str, one_by_one: bool) -> Embedding:
    """Loads the model in `copy`; raises as `load_embedding`."""
    model = _load(copy.local, copy.path)
    try:
        return Embedding(model, image_shape, dtype, one_by_one)
    except Exception as error:  # its layers may raise anything
        raise UserError(
            f"--transform keras:{copy.path}: no model for these images: {first_line(error)}"
        ) from error


def _load(local: str, path: str) -> Any:
    """Loads the model in the file `local`, a copy of `path`."""
    with without_loading_lines():
        import keras

    try:
        if local.endswith(".keras") and not zipfile.is_zipfile(local):
            raise ValueError("no zip file")
        return keras.models.load_model(local, compile=False)
    except Exception as error:  # Keras raises anything when a file is damaged
        raise UserError(
            f"--transform keras:{path}: not a Keras model that can be loaded "
            f"({first_line(error).replace(local, path)})"
        ) from error


def _input_shape(wanted: tuple[int | None, ...], image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Finds the shape in which a model takes images: their own, with a channel, or flat.

    Args:
      wanted: shape of the model's input; None stands for any length.

    Raises:
      ValueError: it takes none of these.
    """
    for shape in (image_shape, (*image_shape, 1), (math.prod(image_shape),)):
        if len(shape) == len(wanted) and all(
            length in (None, size) for length, size in zip(wanted, shape, strict=True)
        ):
            return shape
    needed, given = (
        " × ".join("any" if size is None else str(size) for size in shape)
        for shape in (wanted, image_shape)
    )
    raise ValueError(f"it takes {needed}, the images are {given}")


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

"""Images as the vectors that a saved Keras model makes of them.

TensorFlow takes seconds to load, so it is imported where a model is loaded, not before.
"""

import dataclasses
import math
import os
import shutil
import tempfile
import zipfile
from typing import Any, ClassVar

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import KINDS
from pipeline.shards import plan
from pipeline.terminal import without_loading_lines

ENDINGS = KINDS["keras"].endings
BATCH = 256  # images that a model is applied to at a time


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

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Embedding":
        """Loads the model from its copy at `path`."""
        return load_embedding(path, image_shape, dtype)


class Embedding:
    """A Keras model that makes one vector of each image.

    Attributes:
      num_features: length of the vectors.
    """

    def __init__(self, model: Any, image_shape: tuple[int, ...], dtype: str):
        """Prepares `model` for images of a shape and dtype.

        Raises:
          ValueError: it does not take them; the text says why.
        """
        import tensorflow as tf

        inputs = getattr(model, "inputs", None) or []
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs; one is needed")
        self._shape = _input_shape(tuple(inputs[0].shape)[1:], image_shape)
        self._dtype = tf.as_dtype(inputs[0].dtype)
        # Models of bytes have the scaling in them, as Keras' applications do.
        as_they_are = dtype != "uint8" or self._dtype == tf.uint8
        self._scale = np.float32(1 if as_they_are else 255)
        self._run = tf.function(
            lambda images: tf.nest.flatten(model(images, training=False)),
            input_signature=[tf.TensorSpec((None, *self._shape), self._dtype)],
            autograph=False,
        )
        self.num_features = self._length(math.prod(image_shape), dtype)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Makes vectors, float32 [B, num_features], of images [B, d]."""
        parts = plan.spans(0, len(pixels), BATCH)
        return np.concatenate([self._vectors(pixels[start:stop]) for start, stop in parts])

    def _vectors(self, pixels: np.ndarray) -> np.ndarray:
        images = pixels if self._scale == 1 else pixels / self._scale
        images = images.reshape(len(images), *self._shape)
        (vectors,) = self._run(images.astype(self._dtype.as_numpy_dtype))
        return vectors.numpy().astype("<f4")

    def _length(self, num_pixels: int, dtype: str) -> int:
        outputs = self._run.get_concrete_function().structured_outputs
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
        # Run once, because a model may leave open how long its vectors are.
        return self.apply(np.zeros((1, num_pixels), dtype)).shape[1]


def load_embedding(path: str, image_shape: tuple[int, ...], dtype: str) -> Embedding:
    """Loads the model saved at `path`, a .keras or .h5 file, for images of a shape and dtype.

    It gets uint8 images as float32 in 0 … 1, or unchanged if its input is uint8.

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
        model = _load(local, path)
    try:
        return Embedding(model, image_shape, dtype)
    except Exception as error:  # its layers may raise anything
        raise UserError(
            f"--transform keras:{path}: no model for these images: {_first_line(error)}"
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
            f"({_first_line(error).replace(local, path)})"
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

"""Vectors of length 1, whose squared distance is twice their cosine distance: `--normalize`."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from pipeline import storage
from pipeline.features import Accumulator, Feature, Learned, Transform
from pipeline.shards import json_text
from pipeline.shards.double_double import NUMPY, row_sums

FILE = "transform.json"


@dataclasses.dataclass(frozen=True)
class UnitFeature:
    """The vectors of another feature, or the images themselves, scaled to length 1."""

    first: Feature | None
    is_drawable: ClassVar[bool] = False

    @property
    def file(self) -> str:
        return self.first.file if self.first else FILE

    @property
    def original(self) -> str | None:
        return self.first.original if self.first else None

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the length of the first feature's vectors."""
        if self.first is None:
            return math.prod(image_shape)
        return self.first.num_features(image_shape, dtype)

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Writes the file of the first feature, or one that says that there is none."""
        if self.first is None:
            storage.write_bytes(path, json_text.encode({"normalize": True}))
        else:
            self.first.save(path, image_shape, dtype)

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Unit":
        """Loads the first feature's transform."""
        return Unit(self.first.load(path, image_shape, dtype) if self.first else None)


@dataclasses.dataclass(frozen=True)
class LearnedUnitFeature(UnitFeature):
    """The vectors of a feature that is learned from the images, scaled to length 1."""

    first: Learned

    def accumulator(self, num_pixels: int) -> Accumulator:
        """Returns an empty accumulator of the first feature."""
        return self.first.accumulator(num_pixels)

    def learn(self, accumulator: Any, dtype: str) -> bytes:
        """Returns the content of the first feature's file."""
        return self.first.learn(accumulator, dtype)


def unit_of(first: Feature | None) -> UnitFeature:
    """Scales the vectors of `first`, or images, to length 1."""
    return LearnedUnitFeature(first) if isinstance(first, Learned) else UnitFeature(first)


@dataclasses.dataclass(frozen=True)
class Unit:
    """Scales vectors to length 1, as the last step of a transform."""

    first: Transform | None

    @property
    def batch(self) -> int | None:
        return self.first.batch if self.first else None

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Makes vectors, float32 [B, N] of length 1, of images [B, d]; a vector of zeros stays."""
        vectors = self.first.apply(pixels) if self.first else pixels
        wide = vectors.astype(np.float64)
        lengths = np.sqrt(row_sums(np.square(wide), NUMPY))[:, None]
        return (wide / np.where(lengths > 0, lengths, 1.0)).astype("<f4")

"""Transforms in several steps, each of which works on the vectors of the one before it.

`--transform keras:MobileNetV3Small,pca:64`. The files of the steps are members of one file, a zip.
"""

import dataclasses
import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import Accumulator, Feature, Learned
from pipeline.features.unit import Unit

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # so that equal steps make equal bytes


@dataclasses.dataclass(frozen=True)
class ChainFeature:
    """What the last of some features makes of what the one before it makes of images."""

    steps: tuple[Feature, ...]
    normalize: bool
    file: ClassVar[str] = "transform.zip"
    original: ClassVar[None] = None
    is_drawable: ClassVar[bool] = False

    def shapes(self, image_shape: tuple[int, ...], dtype: str) -> list[tuple[tuple[int, ...], str]]:
        """Returns the shape and dtype of what each step takes; raises as `num_features`."""
        taken = [(image_shape, dtype)]
        for step in self.steps[:-1]:
            taken.append(((step.num_features(*taken[-1]),), "float32"))
        return taken

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the length of the last step's vectors; raises UserError if a step cannot work."""
        return self.steps[-1].num_features(*self.shapes(image_shape, dtype)[-1])

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Writes the files of all steps that are not learned."""
        contents = []
        for step, taken in zip(self.steps, self.shapes(image_shape, dtype), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                step.save(local := os.path.join(folder, step.file), *taken)
                contents.append(storage.read_bytes(local) if storage.exists(local) else b"")
        storage.write_bytes(path, self._packed(contents))

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Chain":
        """Loads the transforms of all steps."""
        return Chain(self._loaded(path, image_shape, dtype), self.normalize)

    def first(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Chain":
        """Loads the transforms of all steps but the last, which need not be learned yet."""
        return Chain(self._loaded(path, image_shape, dtype, -1), normalize=False)

    def is_same(self, path: str) -> bool:
        """Whether the file at `path` holds the models that are the user's own as they are now."""
        contents = zip(self.steps, self._unpacked(path), strict=True)
        return all(
            step.original is None or storage.read_bytes(step.original) == content
            for step, content in contents
        )

    def _loaded(
        self, path: str, image_shape: tuple[int, ...], dtype: str, stop: int | None = None
    ) -> tuple[Any, ...]:
        loaded: list[Any] = []
        taken = image_shape, dtype
        with tempfile.TemporaryDirectory() as folder:
            contents = zip(self.steps, self._unpacked(path), strict=True)
            for step, content in list(contents)[:stop]:
                storage.write_bytes(local := os.path.join(folder, step.file), content)
                loaded.append(step.load(local, *taken))
                taken = (loaded[-1].num_features,), "float32"
        return tuple(loaded)

    def _packed(self, contents: Sequence[bytes]) -> bytes:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as packed:
            for number, (step, content) in enumerate(zip(self.steps, contents, strict=True)):
                packed.writestr(zipfile.ZipInfo(f"{number}-{step.file}", _NO_TIME), content)
        return target.getvalue()

    def _unpacked(self, path: str) -> list[bytes]:
        with zipfile.ZipFile(io.BytesIO(storage.read_bytes(path))) as packed:
            return [packed.read(name) for name in packed.namelist()]


@dataclasses.dataclass(frozen=True)
class LearnedChainFeature(ChainFeature):
    """A chain whose last step is learned from the vectors of the one before it."""

    @property
    def _last(self) -> Learned:
        last = self.steps[-1]
        assert isinstance(last, Learned)
        return last

    def accumulator(self, num_pixels: int) -> Accumulator:
        """Returns an empty accumulator of the vectors of the last step but one, of any length."""
        return self._last.accumulator(0)

    def learn(self, accumulator: Any, dtype: str) -> bytes:
        """Returns the content of the last step's file."""
        return self._last.learn(accumulator, "float32")

    def completed(self, path: str, last: bytes) -> bytes:
        """Returns the content of the chain's file, of that at `path` and the last step's."""
        return self._packed([*self._unpacked(path)[:-1], last])

    def last(self, path: str) -> "Chain":
        """Loads the transform of the last step alone."""
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, self._last.file)
            storage.write_bytes(local, self._unpacked(path)[-1])
            return Chain((self._last.load(local, (), "float32"),), self.normalize)


def chain_of(steps: Sequence[Feature], normalize: bool) -> ChainFeature:
    """Makes one feature of several, each of which works on the vectors of the one before it.

    Raises:
      UserError: one that is learned from all images is not the last.
    """
    if any(isinstance(step, Learned) for step in steps[:-1]):
        raise UserError("--transform: pca:N can only be the last of several")
    kind = LearnedChainFeature if isinstance(steps[-1], Learned) else ChainFeature
    return kind(tuple(steps), normalize)


@dataclasses.dataclass(frozen=True)
class Chain:
    """Applies transforms one after the other, then scales to length 1 if that is asked for."""

    steps: tuple[Any, ...]
    normalize: bool

    @property
    def batch(self) -> int | None:
        return self.steps[0].batch

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Makes vectors, float32 [B, N], of images [B, d]."""
        for step in self.steps:
            pixels = step.apply(pixels)
        return Unit(None).apply(pixels) if self.normalize else pixels

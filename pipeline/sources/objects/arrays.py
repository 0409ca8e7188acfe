"""Arrays in memory, read where they lie."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources.arrays.array import Array
from pipeline.sources.arrays.source import make_part, make_source
from pipeline.sources.pictures.converted import converted
from pipeline.sources.protocol import Planned, Request


@dataclasses.dataclass(frozen=True)
class HeldArray(Array):
    """An array in memory, with the methods of an array in a file.

    Attributes:
      path: its name, in messages.
    """

    values: np.ndarray = dataclasses.field(kw_only=True)

    def header(self) -> tuple[tuple[int, ...], np.dtype]:
        return self.values.shape, self.values.dtype

    def load(self) -> np.ndarray:
        return self.values

    def rows(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        for a, b in plan.spans(start, stop, size):
            pixels = np.ascontiguousarray(self.values[a:b]).reshape(b - a, -1)
            yield a, b, pixels if self.stored is None else self._converted(pixels)


def open_arrays(pair: tuple[Any, Any], request: Request) -> Planned:
    """Opens images and their labels, or None; ids are those of the same array in a .npy file.

    Raises:
      UserError: an array holds no images, or no labels of them.
    """
    images, labels = pair
    held = None if labels is None else _held(labels, f"labels of {request}")
    return converted(make_source(request, [make_part("train", _held(images, str(request)), held)]))


def _held(values: Any, name: str) -> HeldArray:
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)  # as pandas keeps texts
    if array.dtype.hasobject:
        raise UserError(f"{name}: holds Python objects, which are not images or labels")
    return HeldArray(name, values=array)

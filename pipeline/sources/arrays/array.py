"""NumPy files, read by rows, never whole: files may be larger than memory."""

import contextlib
import dataclasses
import math
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from pipeline import storage
from pipeline.errors import UserError, decoding
from pipeline.shards import plan

COLUMN_BYTES = 64 << 20  # of an array in Fortran's order, read at a time


class Header(NamedTuple):
    """What a file says about an array.

    Attributes:
      by_columns: whether it is in Fortran's order, all first pixels first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool = False


@dataclasses.dataclass(frozen=True)
class Array:
    """An array in a .npy file, or in the `member` of an .npz file.

    Attributes:
      stored: the dtype that its rows are converted to; None: they keep theirs.
    """

    path: str
    member: str | None = None
    stored: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.member.removesuffix('.npy')}" if self.member else self.path

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, Header]]:
        """Opens the file at the array's first row; yields it with the array's header."""
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(storage.open_read(self.path))
            with decoding(str(self), "an npz file" if self.member else "an npy file"):
                if self.member:
                    archive = stack.enter_context(zipfile.ZipFile(file))
                    file = stack.enter_context(archive.open(self.member))
                version = npy.read_magic(file)
                read_header = (
                    npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                )
                shape, fortran, dtype = read_header(file)
                if dtype.hasobject:
                    raise UserError(f"{self}: holds Python objects, which are not images or labels")
                yield file, Header(shape, dtype, fortran and len(shape) > 1)

    def header(self) -> tuple[tuple[int, ...], np.dtype]:
        """Reads the array's shape and dtype."""
        with self._open() as (_, header):
            return header.shape, header.dtype

    def load(self) -> np.ndarray:
        """Reads the whole array, which is meant for labels."""
        with self._open() as (file, (shape, dtype, by_columns)):
            data = exactly(file, math.prod(shape) * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")

    def rows(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Reads rows start … stop − 1, up to `size` of them at a time.

        Yields:
          (a, b, array[a:b] flattened to [b − a, d]), one after the other.
        """
        with self._open() as (file, header):
            read = _by_columns if header.by_columns else _by_rows
            for a, b, pixels in read(file, header, start, stop, size):
                yield a, b, pixels if self.stored is None else self._converted(pixels)

    def limits(self) -> tuple[int, int]:
        """Reads the least and the largest value of an array of integers."""
        shape, dtype = self.header()
        size = plan.images_per_block(math.prod(shape[1:]) * dtype.itemsize)
        found = [(rows.min(), rows.max()) for _, _, rows in self.rows(0, shape[0], size)]
        return int(min(low for low, _ in found)), int(max(high for _, high in found))

    def _converted(self, pixels: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            made = pixels.astype(self.stored)
        if pixels.dtype.kind == "f" and (lost := np.isinf(made) & np.isfinite(pixels)).any():
            raise UserError(f"{self}: a pixel of {pixels[lost][0]}, which float32 cannot hold")
        return made


def _by_rows(
    file: BinaryIO, header: Header, start: int, stop: int, size: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    width = math.prod(header.shape[1:])
    # In a compressed member this unpacks all rows before the first, a buffer at a time.
    file.seek(start * width * header.dtype.itemsize, os.SEEK_CUR)
    for a, b in plan.spans(start, stop, size):
        data = exactly(file, (b - a) * width * header.dtype.itemsize)
        yield a, b, np.frombuffer(data, header.dtype).reshape(b - a, width)


def _by_columns(
    file: BinaryIO, header: Header, start: int, stop: int, size: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Reads rows of an array in Fortran's order: many at a time, as each needs a seek a pixel."""
    num_rows, *sides = header.shape
    item, width, first = header.dtype.itemsize, math.prod(sides), file.tell()
    for a, b in plan.spans(start, stop, max(size, COLUMN_BYTES // (width * item))):
        columns = np.empty((width, b - a), header.dtype)
        for column in range(width):
            file.seek(first + (column * num_rows + a) * item)
            columns[column] = np.frombuffer(exactly(file, (b - a) * item), header.dtype)
        pixels = columns.T.reshape(b - a, *sides[::-1])
        pixels = pixels.transpose(0, *range(len(sides), 0, -1)).reshape(b - a, width)
        for c, d in plan.spans(a, b, size):
            yield c, d, pixels[c - a : d - a]


def exactly(file: BinaryIO, num_bytes: int) -> bytes:
    """Reads the next `num_bytes` of `file`; raises EOFError if it ends before."""
    data = file.read(num_bytes)
    if len(data) != num_bytes:
        raise EOFError(f"it ends {num_bytes - len(data)} bytes too early")
    return data

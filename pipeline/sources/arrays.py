"""NumPy files: .npz in Keras' layout (x_train, y_train, x_test, y_test) and .npy.

The array in a file is read by rows, never whole: files may be larger than memory.
"""

import contextlib
import dataclasses
import logging
import math
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from pipeline import storage
from pipeline.errors import UserError, decoding
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources.checks import (
    check_finite,
    check_images,
    check_label_shape,
    numbered_ids,
    short_names,
    stored_dtype,
)
from pipeline.sources.converted import converted
from pipeline.sources.labels import NONE, names_in, numbered, plain_array
from pipeline.sources.protocol import Planned, Request

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")


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
    def _open(self) -> Iterator[tuple[BinaryIO, tuple[int, ...], np.dtype]]:
        """Opens the file at the array's first row; yields it with the array's shape and dtype."""
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
                if fortran and len(shape) > 1:
                    raise UserError(f"{self}: in Fortran order; save numpy.ascontiguousarray(x)")
                if dtype.hasobject:
                    raise UserError(f"{self}: holds Python objects, which are not images or labels")
                yield file, shape, dtype

    def header(self) -> tuple[tuple[int, ...], np.dtype]:
        """Reads the array's shape and dtype."""
        with self._open() as (_, shape, dtype):
            return shape, dtype

    def load(self) -> np.ndarray:
        """Reads the whole array, which is meant for labels."""
        with self._open() as (file, shape, dtype):
            data = exactly(file, math.prod(shape) * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(shape)

    def rows(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Reads rows start … stop − 1, up to `size` of them at a time.

        Yields:
          (a, b, array[a:b] flattened to [b − a, d]), one after the other.
        """
        with self._open() as (file, shape, dtype):
            width = math.prod(shape[1:])
            # In a compressed member this unpacks all rows before the first, a buffer at a time.
            file.seek(start * width * dtype.itemsize, os.SEEK_CUR)
            for a, b in plan.spans(start, stop, size):
                data = exactly(file, (b - a) * width * dtype.itemsize)
                pixels = np.frombuffer(data, dtype).reshape(b - a, width)
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


@dataclasses.dataclass(frozen=True)
class ArrayPart:
    """Images of one split of one file; their ids are `prefix`/00000, `prefix`/00001, …"""

    prefix: str
    images: Array
    labels: Array | None
    num_images: int

    def load_labels(self) -> np.ndarray:
        """Reads the labels as integers [n], −1 where there is none, or as texts [n]."""
        if self.labels is None:
            return np.full(self.num_images, NONE)
        return plain_array(self.labels.load(), str(self.labels))


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images in NumPy files; the images of each part are numbered after those of the last."""

    request: Request
    parts: tuple[ArrayPart, ...]
    image_shape: tuple[int, ...]
    dtype: str
    label_names: tuple[str, ...] | None

    @property
    def num_images(self) -> int:
        return sum(part.num_images for part in self.parts)

    def read(self, piece: plan.Piece) -> Iterator[Block]:
        image_bytes = math.prod(self.image_shape) * np.dtype(self.dtype).itemsize
        sizes = [part.num_images for part in self.parts]
        for index, start, stop in plan.overlaps(piece, sizes):
            part = self.parts[index]
            labels = numbered(part.load_labels(), self.label_names) if self.label_names else None
            for a, b, pixels in part.images.rows(start, stop, plan.images_per_block(image_bytes)):
                ids = numbered_ids(part.prefix, a, b)
                if pixels.dtype != np.uint8:
                    check_finite(pixels, ids, str(part.images))
                yield Block(ids, None if labels is None else labels[a:b], pixels)


def open_npz(request: Request, paths: list[str]) -> Planned:
    """Opens .npz files with x_train and x_test, and y_train and y_test if they are labelled."""
    parts = []
    for path, folder in zip(paths, _id_folders(paths), strict=True):
        with storage.open_read(path) as file, decoding(path, "an npz file"):
            # numpy.load also reads members whose names do not end with .npy.
            members = {n.removesuffix(".npy"): n for n in zipfile.ZipFile(file).namelist()}
        for name in SPLITS if request.split == "all" else (request.split,):
            if f"x_{name}" not in members:
                raise UserError(
                    f"--split {request.split}: {path} has no x_{name}, "
                    f"only {', '.join(sorted(members))}; give a --split that it has"
                )
            labels = Array(path, members[f"y_{name}"]) if f"y_{name}" in members else None
            parts.append(make_part(folder + name, Array(path, members[f"x_{name}"]), labels))
    return converted(make_source(request, parts))


def open_npy(request: Request, paths: list[str]) -> Planned:
    """Opens .npy files of images, with the labels in NAME_labels.npy beside them if it is there."""
    request.refuse_test_split()
    paths = [path for path in paths if len(paths) == 1 or not path.endswith("_labels.npy")]
    parts = []
    for path, folder in zip(paths, _id_folders(paths), strict=True):
        labels = f"{os.path.splitext(path)[0]}_labels.npy"
        array = Array(labels) if storage.is_file(labels) else None
        parts.append(make_part(f"{folder}train", Array(path), array))
    return converted(make_source(request, parts))


def make_part(prefix: str, images: Array, labels: Array | None) -> ArrayPart:
    """Makes a part, and checks its images and labels; raises UserError."""
    shape, dtype = images.header()
    check_images(shape, str(images))
    stored = stored_dtype(dtype, images.limits, str(images))
    if dtype != np.dtype(stored):
        logger.warning(f"{images}: {dtype} pixels are read as {stored}")
        images = dataclasses.replace(images, stored=stored)
    if labels is not None:
        check_label_shape(labels.header()[0], shape[0], str(labels))
    return ArrayPart(prefix, images, labels, shape[0])


def make_source(request: Request, parts: list[ArrayPart]) -> ArraySource:
    """Makes a source of `parts`; it is labelled if any of them is.

    Raises:
      UserError: the parts differ in image shape or dtype, or in the kind of their labels.
    """
    headers = {
        (shape[1:], part.images.stored or dtype.name)
        for part in parts
        for shape, dtype in [part.images.header()]
    }
    if len(headers) > 1:
        raise UserError(f"{request}: parts differ in image shape or dtype: {sorted(headers)}")
    ((image_shape, dtype),) = headers
    names = names_in([part.load_labels() for part in parts if part.labels], str(request))
    if names and not all(part.labels for part in parts):
        bare = [str(part.images) for part in parts if not part.labels]
        logger.warning(f"--input {request}: images without labels: {', '.join(bare)}")
    return ArraySource(request, tuple(parts), image_shape, dtype, names)


def exactly(file: BinaryIO, num_bytes: int) -> bytes:
    """Reads the next `num_bytes` of `file`; raises EOFError if it ends before."""
    data = file.read(num_bytes)
    if len(data) != num_bytes:
        raise EOFError(f"it ends {num_bytes - len(data)} bytes too early")
    return data


def _id_folders(paths: list[str]) -> list[str]:
    """Returns prefixes that keep ids of different files apart: "" if there is one file."""
    if len(paths) == 1:
        return [""]
    return [f"{os.path.splitext(name)[0]}/" for name in short_names(paths)]

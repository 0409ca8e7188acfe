"""The idx files of the original MNIST: *-images-idx3-ubyte and *-labels-idx1-ubyte, gzip or not.

http://yann.lecun.com/exdb/mnist
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from pipeline import storage
from pipeline.errors import UserError, decoding
from pipeline.sources.arrays import Array, exactly, make_part, make_source
from pipeline.sources.checks import short_names
from pipeline.sources.converted import converted
from pipeline.sources.protocol import Planned, Request

SPLITS = {"train": "train", "test": "t10k"}  # split → the beginning of its files' names
NAME = re.compile(r"(?P<name>.*?)[-.]?images[-.]idx\d-ubyte(\.gz)?")
_UINT8 = 0x08


@dataclasses.dataclass(frozen=True)
class IdxArray(Array):
    """An array of bytes in an idx file."""

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, tuple[int, ...], np.dtype]]:
        with storage.open_unpacked(self.path) as file, decoding(str(self), "an idx file"):
            zeros, kind, rank = (magic := exactly(file, 4))[:2], magic[2], magic[3]
            if zeros != b"\0\0" or not 1 <= rank <= 4:
                raise UserError(f"{self}: not an idx file (it begins with {magic.hex()})")
            if kind != _UINT8:
                raise UserError(f"{self}: idx type 0x{kind:02x}; only bytes, 0x08, are read")
            shape = tuple(np.frombuffer(exactly(file, 4 * rank), ">u4").tolist())
            yield file, shape, np.dtype("uint8")


def images_in(folder: str) -> dict[str, str]:
    """Finds the images of MNIST's splits in `folder`, under their usual names: split → file."""
    found: dict[str, str] = {}
    for split, name in SPLITS.items():
        for ending in ("-images-idx3-ubyte", "-images.idx3-ubyte"):
            for path in (storage.join(folder, name + ending + gz) for gz in ("", ".gz")):
                if storage.is_file(path):
                    found.setdefault(split, path)
    return found


def open_idx(request: Request, paths: list[str]) -> Planned:
    """Opens files of images, or folders that hold the splits, with the labels beside them."""
    files: list[str] = []
    for path in paths:
        if storage.is_folder(path):
            files += _split_files(request, path)
        elif NAME.fullmatch(os.path.basename(path)):
            files.append(path)
    if not files:
        raise UserError(f"--input {request}: only labels; give the images, whose labels are found")
    if request.split == "test" and any(_split_of(path) != "test" for path in files):
        raise UserError(f"--split test: {request} is not called t10k-…, so it counts as train")
    parts = []
    for path, prefix in zip(files, _prefixes(files), strict=True):
        labels = labels_beside(path)
        parts.append(make_part(prefix, IdxArray(path), IdxArray(labels) if labels else None))
    return converted(make_source(request, parts))


def labels_beside(path: str) -> str | None:
    """Finds the file with the labels of the images in `path`, packed or not; None if none is."""
    folder, name = os.path.split(path)
    name = re.sub(r"images([-.])idx\d-ubyte(\.gz)?$", r"labels\1idx1-ubyte", name)
    candidates = (storage.join(folder, name + gz) for gz in ("", ".gz"))
    return next(filter(storage.is_file, candidates), None)


def _split_files(request: Request, folder: str) -> list[str]:
    found = images_in(folder)
    splits = SPLITS if request.split == "all" else (request.split,)
    for split in splits:
        if split not in found:
            raise UserError(
                f"--split {request.split}: {folder} has no "
                f"{SPLITS[split]}-images-idx3-ubyte[.gz]; give a --split that it has"
            )
    return [found[split] for split in splits]


def _split_of(path: str) -> str:
    return "test" if os.path.basename(path).startswith(SPLITS["test"]) else "train"


def _prefixes(files: list[str]) -> list[str]:
    splits = [_split_of(path) for path in files]
    if len(set(splits)) == len(files):
        return splits
    names = short_names(files)
    short = [match["name"] for match in map(NAME.fullmatch, names) if match]
    # train-images-idx3-ubyte and train.images.idx3-ubyte differ only in what is left out.
    return short if len(set(short)) == len(files) else names

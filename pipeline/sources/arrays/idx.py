"""The idx files of the original MNIST and its kin (EMNIST, QMNIST), gzip or not.

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
from pipeline.sources.arrays.array import Array, Header, exactly
from pipeline.sources.arrays.source import make_part, make_source
from pipeline.sources.checks import short_names
from pipeline.sources.pictures.converted import converted
from pipeline.sources.protocol import Planned, Request
from pipeline.sources.splits import split_in

SPLITS = {"train": "train", "test": "t10k"}  # split → the beginning of its files' names
_KIND = r"[-.]idx\d(?P<kind>-[a-z]+)?(\.gz)?"
NAME = re.compile(rf"(?P<name>.*?)[-.]?images{_KIND}", re.IGNORECASE)
_LABELS = re.compile(rf".*labels{_KIND}", re.IGNORECASE)
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_LABEL_ENDINGS = ("idx1-ubyte", "idx2-int", "idx1-int", "idx1-byte", "idx1-short", "idx1")
_QMNIST_COLUMNS = 8  # of integers about an image, the first of which is the class


@dataclasses.dataclass(frozen=True)
class IdxArray(Array):
    """An array of numbers in an idx file."""

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, Header]]:
        with storage.open_unpacked(self.path) as file, decoding(str(self), "an idx file"):
            zeros, kind, rank = (magic := exactly(file, 4))[:2], magic[2], magic[3]
            if zeros != b"\0\0" or not 1 <= rank <= 4:
                raise UserError(f"{self}: not an idx file (it begins with {magic.hex()})")
            if kind not in _DTYPES:
                known = ", ".join(f"0x{each:02x}" for each in _DTYPES)
                raise UserError(f"{self}: idx type 0x{kind:02x}; those that are read are {known}")
            shape = tuple(np.frombuffer(exactly(file, 4 * rank), ">u4").tolist())
            yield file, Header(shape, np.dtype(_DTYPES[kind]))


@dataclasses.dataclass(frozen=True)
class IdxLabels(IdxArray):
    """Labels in an idx file; QMNIST's are the first of eight columns."""

    def load(self) -> np.ndarray:
        values = super().load()
        if values.ndim == 2 and values.shape[1] == _QMNIST_COLUMNS and values.dtype.kind == "i":
            return values[:, 0]
        return values


def images_in(folder: str) -> dict[str, str]:
    """Finds the images of a set's splits in `folder` by their names: split → file.

    Of several files of a split, e.g. packed and unpacked, the first in an order of names counts.

    Raises:
      UserError: there are several sets.
    """
    found: dict[str, dict[str, str]] = {}
    for name in sorted(storage.walk(folder), key=_preference):
        if match := NAME.fullmatch(os.path.basename(name)):
            split = split_in(match["name"]) or "train"
            rest = re.sub(r"[-_.]?(train|test|t10k)", "", match["name"], flags=re.IGNORECASE)
            found.setdefault(rest, {}).setdefault(split, storage.join(folder, name))
    if len(found) > 1:
        examples = ", ".join(sorted(next(iter(splits.values())) for splits in found.values()))
        raise UserError(f"--input {folder}: several sets of idx files ({examples}); give one file")
    return next(iter(found.values()), {})


def _preference(name: str) -> tuple[int, bool, bool, str]:
    return name.count("/"), name.endswith(".gz"), "images.idx" in name, name


def open_idx(request: Request, paths: list[str]) -> Planned:
    """Opens files of images, or folders that hold the splits, with the labels beside them."""
    files: list[str] = []
    for path in paths:
        if storage.is_folder(path):
            files += _split_files(request, path)
        elif not _LABELS.fullmatch(os.path.basename(path)):
            files.append(path)
    if not files:
        raise UserError(f"--input {request}: only labels; give the images, whose labels are found")
    if request.split == "test" and any(_split_of(path) != "test" for path in files):
        raise UserError(f"--split test: {request} is not called t10k-…, so it counts as train")
    parts = []
    for path, prefix in zip(files, _prefixes(files), strict=True):
        labels = labels_beside(path)
        parts.append(make_part(prefix, IdxArray(path), IdxLabels(labels) if labels else None))
    return converted(make_source(request, parts))


def labels_beside(path: str) -> str | None:
    """Finds the file with the labels of the images in `path`, packed or not; None if none is."""
    folder, name = os.path.split(path)
    match = re.fullmatch(r"(?P<before>.*)images(?P<mark>[-.])idx.*", name, re.IGNORECASE)
    if not match:
        return None
    names = (f"{match['before']}labels{match['mark']}{ending}" for ending in _LABEL_ENDINGS)
    candidates = (storage.join(folder, name + gz) for name in names for gz in ("", ".gz"))
    return next(filter(storage.is_file, candidates), None)


def _split_files(request: Request, folder: str) -> list[str]:
    found = images_in(folder)
    for split in SPLITS if request.split == "all" else (request.split,):
        if split not in found:
            raise UserError(
                f"--split {request.split}: {folder} has no "
                f"{SPLITS[split]}-images-idx3-ubyte[.gz]; give a --split that it has"
            )
    return [found[split] for split in SPLITS if request.split in ("all", split)]


def _split_of(path: str) -> str:
    return split_in(os.path.basename(path)) or "train"


def _prefixes(files: list[str]) -> list[str]:
    splits = [_split_of(path) for path in files]
    if len(set(splits)) == len(files):
        return splits
    names = short_names(files)
    short = [match["name"] for match in map(NAME.fullmatch, names) if match]
    # train-images-idx3-ubyte and train.images.idx3-ubyte differ only in what is left out.
    return short if len(set(short)) == len(files) else names

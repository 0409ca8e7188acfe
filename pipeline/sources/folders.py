"""Folders of PNG, JPEG, BMP, GIF and WebP files; a label is the name of the first sub-folder."""

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import TransientError, UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import KINDS, Rejection, Request
from pipeline.sources.decode import Unreadable, decode
from pipeline.sources.rows import Row, assemble, first_row, read_row

_IMAGE = re.compile(f".*{KINDS['images']}", re.DOTALL)


class Folder(NamedTuple):
    """What one worker lists.

    Attributes:
      path: a folder, or a file, from the source's base.
      deep: whether what is below the folder belongs to it.
      label: of all that is in it; −1 if there is none.
    """

    path: str
    deep: bool
    label: int

    def images(self, base: str) -> Iterator[str]:
        """Paths of its images from `base`, in no order."""
        path = storage.join(base, self.path)
        if not storage.is_folder(path):
            yield self.path
            return
        for name in storage.walk(path, self.deep):
            if _IMAGE.fullmatch(name):
                yield os.path.join(self.path, name)


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Image files, listed by the workers; their ids are their paths from `base`."""

    request: Request
    base: str
    folders: tuple[Folder, ...]
    label_names: tuple[str, ...] | None
    num_images: int
    image_shape: tuple[int, ...]
    dtype: str = "uint8"

    def parts(self) -> list[int]:
        return list(range(len(self.folders)))

    def list_part(self, part: int) -> Iterator[tuple[bytes, int]]:
        """Paths from `base` as the file system has them, and their labels."""
        folder = self.folders[part]
        for name in folder.images(self.base):
            yield os.fsencode(name), folder.label

    def rows(self, references: Iterator[tuple[bytes, int]]) -> Iterator[Row | Rejection]:
        """The images that references stand for."""
        references, again = itertools.tee(references)
        files = storage.read_each(self.base, (os.fsdecode(path) for path, _ in again))
        for (path, label), data in zip(references, files, strict=True):
            missing = self.label_names is not None and label < 0
            read = functools.partial(self._pixels, data)
            yield read_row(_text(os.fsdecode(path)), None if missing else label, read)

    def read(self, piece: plan.Listing) -> Iterator[Block | Rejection]:
        labelled = self.label_names is not None
        rows = self.rows(piece.references())
        return assemble(rows, self.image_shape, self.dtype, labelled, self.request)

    def _pixels(self, data: bytes | UserError):
        if isinstance(data, TransientError):
            raise data
        if isinstance(data, UserError):
            raise Unreadable(f"cannot read: {_refusal(data)}") from data
        return decode(data, self.request)


def open_folders(request: Request, paths: list[str]) -> FolderSource:
    """Folders of images, with one sub-folder for each label or none, or image files."""
    request.check_whole()
    base = paths[0]
    if len(paths) > 1 or not storage.is_folder(base):
        base = storage.common_folder(paths)
    roots = ["" if path == base else storage.relative(path, base) for path in paths]
    folders = [folder for root in roots for folder in _folders(base, root)]
    sizes = [sum(1 for _ in folder.images(base)) for folder in folders]
    if not sum(sizes):
        raise UserError(
            f"--input {request}: no PNG, JPEG, BMP, GIF or WebP files; other formats are given "
            "as files, e.g. 'FOLDER/*.parquet'"
        )
    folders = [folder for folder, size in zip(folders, sizes, strict=True) if size]
    names = tuple(sorted({_label(folder) for folder in folders if folder.deep}))
    labelled = tuple(
        folder._replace(label=names.index(_label(folder))) if folder.deep else folder
        for folder in folders
    )
    source = FolderSource(request, base, labelled, names or None, sum(sizes), ())
    references = (found for part in source.parts() for found in source.list_part(part))
    first = first_row(source.rows(references), request)
    return dataclasses.replace(source, image_shape=first.pixels.shape)


def _folders(base: str, root: str) -> list[Folder]:
    """What lies in a root itself, and each of its sub-folders."""
    found = [Folder(root, deep=False, label=-1)]
    if storage.is_folder(path := storage.join(base, root)):
        found += [Folder(os.path.join(root, n), True, -1) for n in storage.folders(path)]
    return found


def _label(folder: Folder) -> str:
    return _text(os.path.basename(folder.path))


def _text(path: str) -> str:
    """A path as UTF-8, which a path need not be."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _refusal(error: UserError) -> str:
    """What the operating system said, without the path, which is another on another machine."""
    cause = error.__cause__
    return (isinstance(cause, OSError) and cause.strerror) or "refused"

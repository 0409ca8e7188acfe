"""Folders of image files; a label is the name of the sub-folder that an image lies in.

Such a folder may hold millions of files, so nobody holds the list of all of them: workers list
the sub-folders, and read the images that their piece is made of. Folders that are all called train,
test and the like hold splits, each with its own sub-folders.
"""

import collections
import dataclasses
import functools
import itertools
import logging
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import TransientError, UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import text_of
from pipeline.sources.formats import IMAGE_ENDING, image_formats_text
from pipeline.sources.labels import NONE, Unnamed
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.rows import Head, Item, blocks, settle
from pipeline.sources.skipped import Skipped, is_hidden
from pipeline.sources.splits import of_split, split_named

logger = logging.getLogger(__name__)

_IMAGE = re.compile(f".*{IMAGE_ENDING}", re.DOTALL)
HEAD_BYTES = 1 << 16  # of an image file: most have their header there


class Folder(NamedTuple):
    """A folder, or a single file, that one worker lists.

    Attributes:
      path: relative to the source's base.
      deep: whether what lies in its sub-folders belongs to it.
      label: the label of all its images; −1: they have none.
      root: the value of `--input` that it belongs to, relative to the source's base.
    """

    path: str
    deep: bool
    label: int
    root: str

    def images(self, base: str, others: Skipped | None = None) -> Iterator[str]:
        """Yields the paths of its images relative to `base`, in any order.

        Args:
          others: counts the files that are no images, or hidden.
        """
        path = storage.join(base, self.path)
        if not storage.is_folder(path):
            yield self.path
            return
        for name in storage.walk(path, self.deep, hidden=others is not None):
            if _IMAGE.fullmatch(name) and not is_hidden(name):
                yield os.path.join(self.path, name)
            elif others is not None:
                others.add(name)


class Links(NamedTuple):
    """Tells which files are read already where no link leads to them.

    Attributes:
      base: of the paths.
      roots: relative to the base → where they really are; empty if the files are remote.
    """

    base: str
    roots: dict[str, str]

    @classmethod
    def among(cls, base: str, roots: list[str]) -> "Links":
        """Looks at the folders among the `roots`."""
        if not storage.is_local(base):
            return cls(base, {})
        folders = [root for root in roots if storage.is_folder(storage.join(base, root))]
        return cls(base, {root: os.path.realpath(storage.join(base, root)) for root in folders})

    def doubles(self, name: str, root: str) -> bool:
        """Whether the file `name`, found in `root`, is read under its own name as well."""
        if root not in self.roots:
            return False
        path = os.path.join(self.base, name)
        if os.path.islink(path):
            real = os.path.realpath(path)
        else:
            real = os.path.join(_real(os.path.dirname(path)), os.path.basename(path))
        if real == os.path.join(self.roots[root], _below(name, root)):
            return False
        below = (_below(real, folder) for folder in self.roots.values() if _lies_in(real, folder))
        return bool(_IMAGE.fullmatch(real)) and any(not is_hidden(path) for path in below)


@functools.lru_cache(maxsize=64)  # asked for each file of a folder
def _real(folder: str) -> str:
    return os.path.realpath(folder)


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Image files, listed by the workers; their ids are their paths relative to `base`."""

    request: Request
    base: str
    folders: tuple[Folder, ...]
    label_names: tuple[str, ...] | None
    num_images: int
    image_shape: tuple[int, ...]
    links: Links
    dtype: str = "uint8"
    color: str = AUTO
    num_skipped: int = 0

    def parts(self) -> list[int]:
        return list(range(len(self.folders)))

    def list_part(self, part: int) -> Iterator[tuple[bytes, int]]:
        """Yields paths relative to `base`, in the file system's bytes, and labels."""
        folder = self.folders[part]
        for name in folder.images(self.base):
            if not self.links.doubles(name, folder.root):
                yield os.fsencode(name), folder.label

    def items(self, references: Iterator[tuple[bytes, int]]) -> Iterator[Item]:
        """Reads the images that references stand for, in their order."""
        # Remote files are read ahead of the images that are decoded: hence two iterators.
        references, again = itertools.tee(references)
        files = storage.read_each(self.base, (os.fsdecode(path) for path, _ in again))
        for (path, label), data in zip(references, files, strict=True):
            yield Item(text_of(path), label, _content(data))

    def read(self, piece: plan.Listing) -> Iterator[Block | Rejection | Unnamed]:
        return blocks(self.items(piece.references()), self, self.label_names is not None)

    def settled(self) -> "FolderSource":
        """Returns the source with what all its images share."""
        listed = (found for part in self.parts() for found in self.list_part(part))
        items = self._heads(listed) if storage.is_local(self.base) else self.items(listed)
        shape, dtype, color = settle(items, self.request)
        return dataclasses.replace(self, image_shape=shape, dtype=dtype, color=color)

    def _heads(self, references: Iterator[tuple[bytes, int]]) -> Iterator[Item]:
        """Reads the beginning of each local file; the whole file where more is needed."""
        for reference in references:
            path = storage.join(self.base, os.fsdecode(reference[0]))
            try:
                with storage.open_read(path) as file:
                    head = file.read(HEAD_BYTES)
            except UserError as error:
                yield Item(text_of(reference[0]), reference[1], _content(error))
                continue
            whole = functools.partial(self.items, iter([reference]))
            yield Item(text_of(reference[0]), reference[1], Head(head, whole))


def open_folders(request: Request, paths: list[str]) -> FolderSource:
    """Opens folders of images, with one sub-folder for each label or none, or image files."""
    paths = _outermost(paths, request)
    base = paths[0]
    if len(paths) > 1 or not storage.is_folder(base):
        base = storage.common_folder(paths)
    roots = ["" if path == base else storage.relative(path, base) for path in paths]
    skipped = Skipped()
    roots = _of_split(request, base, roots, skipped)
    links = Links.among(base, roots)
    folders, num_images = _with_images(request, base, roots, links, skipped)
    if not folders:
        there = f", but {skipped.total():,} others" if skipped else ""
        raise UserError(
            f"--input {request}: no {image_formats_text()} files{there}; give a folder that has "
            "some"
        )
    skipped.say(request)
    names: tuple[str, ...] = ()
    if request.wants_labels:
        names = tuple(sorted({_label(folder) for folder in folders if folder.deep}))
    labelled = tuple(
        folder._replace(label=names.index(_label(folder))) if folder.deep and names else folder
        for folder in folders
    )
    source = FolderSource(
        request,
        base,
        labelled,
        names or None,
        num_images,
        (),
        links,
        num_skipped=skipped.total(),
    )
    return source.settled()


def _of_split(request: Request, base: str, roots: list[str], skipped: Skipped) -> list[str]:
    """Replaces roots whose sub-folders are splits by those of the request's split.

    Args:
      skipped: counts the files beside the folders of splits.
    """
    found: dict[str, str] = {}
    for root in roots:
        path = storage.join(base, root)
        names = storage.folders(path) if storage.is_folder(path) else []
        splits = {os.path.join(root, name): split_named(name) for name in names}
        if not names or not all(splits.values()):
            request.refuse_test_split()
            return roots
        found |= {name: split for name, split in splits.items() if split}
    for root in roots:
        for name in storage.walk(storage.join(base, root), deep=False, hidden=True):
            skipped.add(name)
    return of_split(list(found), list(found.values()), request)


def _content(data: bytes | UserError) -> bytes | Unreadable:
    """Returns the content of a file, or why it cannot be read."""
    if isinstance(data, TransientError):
        raise data  # it may pass: the piece is read again
    if isinstance(data, UserError):
        return Unreadable(f"cannot read: {_reason(data)}")
    return data


def _outermost(paths: list[str], request: Request) -> list[str]:
    """Leaves out the paths that lie in another one, which is read with all that is below it."""
    real = {path: _real(path) if storage.is_local(path) else path.rstrip("/") for path in paths}
    given = set(real.values())
    inner = {path for path in paths if any(folder in given for folder in _reading(real[path]))}
    if inner:
        logger.warning(
            f"--input {request}: {min(inner)} lies in a folder that is given too; it is read once"
        )
    return [path for path in paths if path not in inner]


def _reading(path: str) -> Iterator[str]:
    """Yields the folders above `path` that are read with it: hidden ones are not."""
    while not is_hidden(os.path.basename(path)) and (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def _lies_in(path: str, folder: str) -> bool:
    return path != folder and (not folder or path.startswith(folder + "/"))


def _below(path: str, folder: str) -> str:
    """Returns a path as it is seen from a folder that it lies in."""
    return path[len(folder) + 1 :] if folder else path


def _folders(base: str, root: str) -> list[Folder]:
    """Lists a root without its sub-folders, and each of its sub-folders."""
    found = [Folder(root, False, NONE, root)]
    if storage.is_folder(path := storage.join(base, root)):
        found += [Folder(os.path.join(root, n), True, NONE, root) for n in storage.folders(path)]
    return found


def _with_images(
    request: Request, base: str, roots: list[str], links: Links, skipped: Skipped
) -> tuple[list[Folder], int]:
    """Finds the folders that hold images, and counts these; says what is left out.

    Args:
      skipped: counts the files that are no images.
    """
    folders, images, doubled, beside = [], 0, 0, 0
    for folder in (folder for root in roots for folder in _folders(base, root)):
        doubles = collections.Counter(
            links.doubles(name, folder.root) for name in folder.images(base, skipped)
        )
        images, doubled = images + doubles[False], doubled + doubles[True]
        if doubles[False]:
            folders.append(folder)
            beside += 0 if folder.deep else doubles[False]
    if doubled:
        logger.warning(
            f"--input {request}: {doubled:,} links lead to images that are read under another "
            "name; each image is read once"
        )
    if beside and any(folder.deep for folder in folders):
        logger.warning(
            f"--input {request}: {beside:,} of {images:,} images lie in no folder of a label; "
            "they have none"
        )
    return folders, images


def _label(folder: Folder) -> str:
    return text_of(os.fsencode(os.path.basename(folder.path)))


def _reason(error: UserError) -> str:
    """Returns the operating system's reason, without the path, which differs between machines."""
    cause = error.__cause__
    return (isinstance(cause, OSError) and cause.strerror) or "refused"

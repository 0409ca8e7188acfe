"""Images in tar (WebDataset) and zip archives, read without unpacking them to disk.

An archive is read once to count its images and to keep an offset now and then, so that a piece can
begin near its first image. A label is what belongs to an image as a sample of WebDataset, or, where
nothing does, the first folder that it lies in.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import hashed
from pipeline.shards.rejected import Rejection
from pipeline.sources.archives.contents import (
    ArchiveFile,
    Contents,
    Layout,
    common_base,
    contents,
    opened,
)
from pipeline.sources.archives.member import Member, NoFile
from pipeline.sources.archives.samples import Sample, label_of, samples
from pipeline.sources.checks import short_names
from pipeline.sources.formats import image_formats_text
from pipeline.sources.labels import NONE, Label, Unnamed, names_of, number_of
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.rows import Item, blocks, settle
from pipeline.sources.skipped import Skipped
from pipeline.sources.splits import of_split, split_in, split_named


@dataclasses.dataclass(frozen=True)
class ArchiveSource:
    """Images in archives, numbered through all of them; their ids are their paths.

    Attributes:
      by_folder: whether labels are folders.
      repeated: hashes of the ids that several images bring.
    """

    request: Request
    files: tuple[ArchiveFile, ...]
    layout: Layout
    label_names: tuple[str, ...] | None
    by_folder: bool
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    color: str = AUTO
    repeated: frozenset[int] = frozenset()
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        return sum(file.num_images for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        return blocks(self.items(piece), self, self.label_names is not None)

    def renamed(self, label_names: tuple[str, ...], repeated: np.ndarray) -> "ArchiveSource":
        names = None if self.label_names is None else label_names
        return dataclasses.replace(self, label_names=names, repeated=frozenset(repeated.tolist()))

    def items(self, piece: plan.Piece) -> Iterator[Item | Unnamed]:
        """Reads the images of a piece, one by one; before it a label that has no number."""
        numbers = {name: index for index, name in enumerate(self.label_names or ())}
        for index, start, stop in plan.overlaps(piece, (f.num_images for f in self.files)):
            file = self.files[index]
            for number, name, label, content in self._images(file, start, stop):
                label_number = number_of(label, numbers)
                if label_number is None and label is not None:
                    yield Unnamed(label)
                yield Item(
                    self._id(file, name, number),
                    NONE if label_number is None else label_number,
                    content,
                )

    def _images(
        self, file: ArchiveFile, start: int, stop: int
    ) -> Iterator[tuple[int, str, Label | None, bytes | Unreadable]]:
        """Yields (number, name, label, content) of the images start … stop − 1 of an archive."""
        first, offset = max(each for each in file.starts if each[0] <= start)
        with opened(file.path, offset) as members:
            for sample in filter(self.layout.has, samples(members, self.request)):
                if sample.images and first + len(sample.images) > start:
                    label = self._label(file, sample)
                    for number, image in enumerate(sample.images, first):
                        if start <= number < stop:
                            # Read here, where `opened` translates what is wrong with the archive.
                            yield number, image.name, label, _content(image)
                first += len(sample.images)
                if first >= stop:
                    return

    def _label(self, file: ArchiveFile, sample: Sample) -> Label | None:
        if self.label_names is None:
            return None
        if self.by_folder:
            return self.layout.folder(sample.images[0].name) or None
        return label_of(sample, self.request, f"{file.path}: {sample.images[0].name}")

    def _id(self, file: ArchiveFile, name: str, number: int) -> str:
        brought = self.layout.below(name)
        brought = f"{file.name}/{brought}" if len(self.files) > 1 else brought
        if self.repeated and int(hashed([brought])[0]) in self.repeated:
            return f"{file.name}/{number:05d}"
        return brought


def open_archives(request: Request, paths: list[str]) -> ArchiveSource:
    """Opens archives, and finds their images and labels.

    Raises:
      UserError: an archive is damaged, or there is no image.
    """
    named = list(zip(paths, short_names(paths), strict=True))
    found = [contents(*each, request, Layout()) for each in named]
    layout = _layout(found, request)
    if layout.splits:
        found = [contents(*each, request, layout) for each in named]
    elif not all(split_in(path) for path in paths):
        request.refuse_test_split()
    skipped = Skipped(sum((each.skipped for each in found), Skipped()))
    if not any(each.file.num_images for each in found):
        raise UserError(f"--input {request}: no {image_formats_text()} files; nothing to cluster")
    skipped.say(request)
    names, by_folder = _label_names(found, layout, request)
    source = ArchiveSource(
        request,
        tuple(each.file for each in found),
        layout,
        names,
        by_folder,
        num_skipped=skipped.total(),
    )
    shape, dtype, color = settle(source.items(plan.Piece(0, 0, source.num_images)), request)
    return dataclasses.replace(source, image_shape=shape, dtype=dtype, color=color)


def _content(image: Member | NoFile) -> bytes | Unreadable:
    return image.read() if isinstance(image, Member) else Unreadable(image.reason)


def _layout(found: Sequence[Contents], request: Request) -> Layout:
    """Finds the folder that all images lie in, and whether the folders below it are splits."""
    folders = {folder for each in found for folder in each.folders}
    base = common_base(folders)
    firsts = sorted({f"{folder}/".removeprefix(base).partition("/")[0] for folder in folders})
    splits = [split for first in firsts if (split := split_named(first))]
    if not firsts or len(splits) < len(firsts):
        return Layout(base)
    return Layout(base, tuple(of_split(firsts, splits, request)))


def _label_names(
    found: Sequence[Contents], layout: Layout, request: Request
) -> tuple[tuple[str, ...] | None, bool]:
    """Returns the names of the labels, and whether labels are folders."""
    labels = {label for each in found for label in each.labels}
    if labels:
        return names_of(labels, f"--input {request}"), False
    if not request.wants_labels:
        return None, False
    if request.label_column:
        raise UserError(
            f"--label-column {request.label_column}: {request} has no files of that ending, and "
            ".json files without such a key"
        )
    folders = {layout.folder(f"{folder}/") for each in found for folder in each.folders} - {""}
    return (names_of(folders, f"--input {request}"), True) if folders else (None, False)

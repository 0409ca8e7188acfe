"""What lies in an archive: one pass over its files, which reads labels and no images."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.sources.archives import tarred, zipped
from pipeline.sources.archives.member import Member, NoFile
from pipeline.sources.archives.samples import Sample, label_of, samples, skip_others
from pipeline.sources.labels import MAX_LABELS, Label, names_of
from pipeline.sources.protocol import Request
from pipeline.sources.skipped import Skipped

STRIDE = 1024  # images from one whose offset is kept to the next, or a few more
_DEPTH = 6  # of folders that are told apart


class ArchiveFile(NamedTuple):
    """An archive.

    Attributes:
      name: the beginning of the ids of its images, where there are several archives.
      num_images: of the split.
      starts: (number of an image, offset) of samples from which the archive can be read.
    """

    path: str
    name: str
    num_images: int
    starts: tuple[tuple[int, int], ...]


class Layout(NamedTuple):
    """How the folders in archives are to be understood.

    Attributes:
      base: the folder, with a slash, that all images lie in; "" if there is none.
      splits: folders below it that are read as the request's split; () if there are none.
    """

    base: str = ""
    splits: tuple[str, ...] = ()

    def folder(self, name: str) -> str:
        """Returns the first folder that a file lies in, below the base and its split; "" if none.

        It is the image's label.
        """
        parts = self.below(name).split("/")[:-1]
        return next(iter(parts[1:] if self.splits else parts), "")

    def below(self, name: str) -> str:
        """Returns the path of a file as it is seen from the base."""
        return name.removeprefix(self.base)

    def has(self, sample: Sample) -> bool:
        """Whether a sample belongs to the split."""
        if not self.splits or not sample.images:
            return True
        return self.below(sample.images[0].name).partition("/")[0] in self.splits


class Contents(NamedTuple):
    """What a pass over an archive finds.

    Attributes:
      folders: that images lie in.
      labels: of samples.
      skipped: the files that are neither images nor labels, and hidden ones.
    """

    file: ArchiveFile
    folders: frozenset[str]
    labels: frozenset[Label]
    skipped: Skipped


def contents(path: str, name: str, request: Request, layout: Layout) -> Contents:
    """Counts the images of an archive, and finds their folders and labels.

    Raises:
      UserError: it is damaged, or a label is none.
    """
    starts: list[tuple[int, int]] = []
    folders, labels, skipped, count = set[str](), set[Label](), Skipped(), 0
    with opened(path) as members:
        for sample in filter(layout.has, samples(members, request, skipped)):
            skip_others(sample, request, skipped)
            if not sample.images:
                continue
            if not starts or count >= starts[-1][0] + STRIDE:
                starts.append((count, sample.start))
            count += len(sample.images)
            folders.update("/".join(i.name.split("/")[:-1][:_DEPTH]) for i in sample.images)
            if request.wants_labels:
                label = label_of(sample, request, f"{path}: {sample.images[0].name}")
                labels.update(() if label is None else (label,))
            if len(labels) > MAX_LABELS:
                names_of(labels, f"--input {request}")
    file = ArchiveFile(path, name, count, tuple(starts))
    return Contents(file, frozenset(folders), frozenset(labels), skipped)


def common_base(folders: Iterable[str]) -> str:
    """Returns the folder, with a slash, that all `folders` lie in or are; "" if there is none."""
    base: list[str] | None = None
    for parts in (folder.split("/") if folder else [] for folder in folders):
        base = parts if base is None else _shared(base, parts)
    return "".join(f"{part}/" for part in base or ())


def _shared(one: Sequence[str], other: Sequence[str]) -> list[str]:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return list(one[:length])


@contextlib.contextmanager
def opened(path: str, start: int = 0) -> Iterator[Iterator[Member | NoFile]]:
    """Opens an archive at a sample; yields its files from there on.

    Raises:
      UserError: it is damaged; raised within the block as well.
    """
    is_zip = path.lower().endswith(".zip")
    with storage.open_read(path) if is_zip else storage.open_unpacked(path) as file:
        try:
            yield zipped.members(file, start) if is_zip else tarred.members(file, start)
        except ValueError as error:
            kind = "zip" if is_zip else "tar"
            raise UserError(f"{path}: damaged {kind} archive ({error}); make it again") from error

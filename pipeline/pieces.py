"""Reading one piece of a source: its images, and what is noted about them on the way."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from pipeline import storage
from pipeline.shards import ids
from pipeline.shards.block import Block
from pipeline.shards.manifest import SeenWeights, Shard
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import part_file, write_part
from pipeline.sources import Rejection, Source
from pipeline.sources.labels import MAX_LABELS, NONE, Label, Unnamed, names_of
from pipeline.sources.protocol import Renamable


class SeenLabels(NamedTuple):
    """The labels of some images.

    Attributes:
      numbers: the labels as they are written, without −1.
      unnamed: labels that no number is known for.
    """

    numbers: frozenset[int] = frozenset()
    unnamed: frozenset[Label] = frozenset()

    def merge(self, other: "SeenLabels") -> "SeenLabels":
        """Returns the labels of both."""
        return SeenLabels(self.numbers | other.numbers, self.unnamed | other.unnamed)


class WrittenPiece(Protocol):
    """A piece whose file is written, be it a shard or assignments.

    Attributes:
      number: the number of the piece.
      shard: the manifest's entry for the file.
      num_rejected: images of the piece that could not be read and are not in the file.
      labels: what was seen of the labels of its images.
    """

    @property
    def number(self) -> int: ...
    @property
    def shard(self) -> Shard: ...
    @property
    def num_rejected(self) -> int: ...
    @property
    def labels(self) -> SeenLabels: ...


class PieceReader:
    """Yields the images of one piece of a source, and keeps what is noted about them.

    Attributes:
      rejections: the images that cannot be read.
      labels: what was seen of the labels.
      weights: what was seen of the weights.
    """

    def __init__(self, source: Source, piece: Piece | Listing):
        self.source, self.piece = source, piece
        self.rejections: list[Rejection] = []
        self.weights = SeenWeights()
        self._numbers: set[int] = set()
        self._unnamed: set[Label] = set()
        self._hashes: list[np.ndarray] | None = [] if isinstance(source, Renamable) else None

    def __iter__(self) -> Iterator[Block]:
        for found in self.source.read(self.piece):
            match found:
                case Rejection():
                    self.rejections.append(found)
                case Unnamed():
                    self._unnamed.add(found.label)
                    if len(self._unnamed) > MAX_LABELS:
                        names_of(self._unnamed, f"--input {self.source.request}")
                case Block():
                    if found.labels is not None:
                        self._numbers.update(np.unique(found.labels).tolist())
                    if found.weights is not None:
                        self.weights = self.weights.merge(SeenWeights.of(found.weights))
                    if self._hashes is not None:
                        self._hashes.append(ids.hashed(found.ids))
                    yield found

    @property
    def labels(self) -> SeenLabels:
        return SeenLabels(frozenset(self._numbers - {NONE}), frozenset(self._unnamed))

    def write_notes(self, folder: str, num_shards: int) -> None:
        """Writes the rejections, if any, and the hashes of ids that the images bring."""
        number = self.piece.number
        if self.rejections:
            write_part(storage.join(folder, part_file(number, num_shards)), self.rejections)
        if self._hashes is not None:
            path = storage.join(folder, ids.part_file(number, num_shards))
            ids.write_part(path, self._hashes)

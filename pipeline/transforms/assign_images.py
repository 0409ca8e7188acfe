"""Beam wiring: pieces of a source become rows with the nearest centroid, then a manifest.

Only the model's folder travels; every worker reads the centroids from there once.
"""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.source import Transformed
from pipeline.nearest import Model, Nearest, read_model
from pipeline.shards.assignments import (
    ASSIGNMENTS,
    Assigned,
    AssignmentsManifest,
    Summed,
    assignments_file,
    write_rows,
)
from pipeline.shards.block import Block
from pipeline.shards.manifest import MANIFEST, Shard
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import DEFAULT_FRACTION, part_file, write_part
from pipeline.sources import Listed, Planned, Rejection, Source
from pipeline.transforms.shard_images import (
    Pieces,
    in_one_place,
    label_names,
    remove_leftovers,
    settle,
)


class Scored(NamedTuple):
    """Assignments of a piece that are in place.

    Attributes:
      number: of the piece.
      shard: their file.
      num_rejected: images of the piece that are not in it.
      num_labels: 1 + the largest label; 0 where the images have none.
      cluster_sizes: images of each cluster, int64 [k].
    """

    number: int
    shard: Shard
    num_rejected: int
    num_labels: int
    cluster_sizes: np.ndarray


def write_assignments(
    source: Source, piece: Piece | Listing, nearest: Nearest, folder: str, num_shards: int
) -> Scored:
    """Reads one piece of `source` block by block and publishes its assignments below `folder`."""
    name = assignments_file(piece.number, num_shards)
    rejections: list[Rejection] = []
    sizes = np.zeros(nearest.num_clusters, np.int64)
    num_labels = 0

    def assigned() -> Iterator[Assigned]:
        nonlocal num_labels
        for block in _blocks(source, piece, rejections):
            yield (found := nearest(block))
            np.add.at(sizes, found.clusters, 1)
            if block.labels is not None:
                num_labels = max(num_labels, 1 + int(block.labels.max()))

    with storage.publish(storage.join(folder, ASSIGNMENTS, name)) as file:
        summed = Summed(file)
        write_rows(summed, assigned(), source.label_names)
    if rejections:
        write_part(storage.join(folder, part_file(piece.number, num_shards)), rejections)
    shard = summed.shard(name, int(sizes.sum()))
    return Scored(piece.number, shard, len(rejections), num_labels, sizes)


def _blocks(source: Source, piece: Piece | Listing, rejections: list[Rejection]) -> Iterator[Block]:
    """The images of a piece; those that cannot be read are added to `rejections`."""
    for found in source.read(piece):
        if isinstance(found, Rejection):
            rejections.append(found)
        else:
            yield found


def complete(
    source: Source,
    model: Model,
    written: Iterable[Scored],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
) -> None:
    """Publishes the manifest, which completes the assignments.

    An engine may call it again after it has been interrupted.

    Raises:
      UserError: too many images were rejected.
    """
    parts = {part.number: part for part in written}
    for number in set(range(num_shards)) - parts.keys():
        # No hash of a path fell on it.
        listing = Listing(number, [])
        parts[number] = write_assignments(source, listing, Nearest(model), folder, num_shards)
    ordered = [parts[number] for number in sorted(parts)]
    settle(ordered, folder, num_shards, max_rejected)
    remove_leftovers(storage.join(folder, ASSIGNMENTS))
    sizes = np.sum([part.cluster_sizes for part in ordered], axis=0)
    manifest = AssignmentsManifest(
        model={"folder": model.folder, "fingerprint": model.fingerprint()},
        num_images=int(sizes.sum()),
        num_clusters=len(sizes),
        cluster_sizes=tuple(sizes.tolist()),
        label_names=label_names(source, max(part.num_labels for part in ordered)),
        files=tuple(part.shard for part in ordered),
        num_rejected=sum(part.num_rejected for part in ordered),
        source=source.request.describe(),
    )
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())


def same_model(folder: str, fingerprint: str) -> Model:
    """The model in `folder`.

    Raises:
      UserError: it is not the one that had `fingerprint` when the job began.
    """
    model = storage.retrying(lambda: read_model(folder))
    if model.fingerprint() != fingerprint:
        raise UserError(f"--model {folder}: replaced since the job began; run it again")
    return model


class WriteAssignments(beam.DoFn):
    """`write_assignments` for each piece, counted: images and milliseconds a piece."""

    def __init__(self, source: Source, model: Model, folder: str, num_shards: int):
        self._source, self._folder, self._num_shards = source, folder, num_shards
        self._model = (model.folder, model.fingerprint())
        self._images = Metrics.counter("kmeans-job", "images")
        self._rejected = Metrics.counter("kmeans-job", "rejected")
        self._milliseconds = Metrics.distribution("kmeans-job", "shard_milliseconds")

    def setup(self) -> None:
        self._nearest = Nearest(same_model(*self._model))
        if isinstance(self._source, Transformed):
            self._source = self._source.loaded()

    def process(self, piece: Piece | Listing) -> Iterator[Scored]:
        start = time.monotonic()
        scored = storage.retrying(
            lambda: write_assignments(
                self._source, piece, self._nearest, self._folder, self._num_shards
            )
        )
        self._images.inc(scored.shard.num_images)
        self._rejected.inc(scored.num_rejected)
        self._milliseconds.update(int(1000 * (time.monotonic() - start)))
        yield scored


class AssignImages(beam.PTransform):
    """A source → the assignments and the manifest of a folder."""

    def __init__(
        self,
        source: Planned | Listed,
        model: Model,
        folder: str,
        num_shards: int,
        max_rejected: float = DEFAULT_FRACTION,
    ):
        super().__init__()
        self._source, self._model, self._folder = source, model, folder
        self._num_shards, self._max_rejected = num_shards, max_rejected

    def expand(self, begin):
        source, folder, num_shards = self._source, self._folder, self._num_shards
        max_rejected = self._max_rejected
        model = (self._model.folder, self._model.fingerprint())

        def end(written: list[Scored]) -> None:
            read = same_model(*model)
            storage.retrying(
                lambda: complete(source, read, written, folder, num_shards, max_rejected)
            )

        write = WriteAssignments(source, self._model, folder, num_shards)
        written = begin | "Pieces" >> Pieces(source, num_shards) | "Write" >> beam.ParDo(write)
        return in_one_place(written, end)

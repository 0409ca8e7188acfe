"""Beam wiring: pieces of a source become rows with the nearest centroid, then a manifest.

Only the path of the model's folder travels; every worker reads the centroids from there once.
"""

import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import storage
from pipeline.features.source import Transformed
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards.analysis import Analysis
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import DEFAULT_FRACTION
from pipeline.sources import Listed, Planned, Source
from pipeline.transforms.runner import NAMESPACE
from pipeline.transforms.shard_images import Pieces, in_one_place
from pipeline.write_assignments import (
    WrittenAssignments,
    complete_assignments,
    read_same_model,
    write_assignments,
)


class WriteAssignments(beam.DoFn):
    """Calls `write_assignments` for each piece; counts images and milliseconds a piece."""

    def __init__(
        self,
        source: Source,
        model: Model,
        folder: str,
        num_shards: int,
        analysis: Analysis | None = None,
    ):
        self._source, self._folder, self._num_shards = source, folder, num_shards
        self._analysis = analysis
        self._model = (model.folder, model.fingerprint())
        self._images = Metrics.counter(NAMESPACE, "images")
        self._rejected = Metrics.counter(NAMESPACE, "rejected")
        self._milliseconds = Metrics.distribution(NAMESPACE, "shard_milliseconds")

    def setup(self) -> None:
        self._nearest = NearestCentroid(read_same_model(*self._model))
        if isinstance(self._source, Transformed):
            self._source = self._source.loaded()

    def process(self, piece: Piece | Listing) -> Iterator[WrittenAssignments]:
        start = time.monotonic()
        written = storage.retrying(
            lambda: write_assignments(
                self._source, piece, self._nearest, self._folder, self._num_shards, self._analysis
            )
        )
        self._images.inc(written.shard.num_images)
        self._rejected.inc(written.num_rejected)
        self._milliseconds.update(int(1000 * (time.monotonic() - start)))
        yield written


class AssignImages(beam.PTransform):
    """Turns a source into the assignments and the manifest of a folder."""

    def __init__(
        self,
        source: Planned | Listed,
        model: Model,
        folder: str,
        num_shards: int,
        max_rejected: float = DEFAULT_FRACTION,
        analysis: Analysis | None = None,
    ):
        super().__init__()
        self._source, self._model, self._folder = source, model, folder
        self._num_shards, self._max_rejected = num_shards, max_rejected
        self._analysis = analysis

    def expand(self, begin):
        source, folder, num_shards = self._source, self._folder, self._num_shards
        max_rejected, analysis = self._max_rejected, self._analysis
        # Not the model itself: what a step refers to travels with it.
        model = (self._model.folder, self._model.fingerprint())

        def complete(written: list[WrittenAssignments]) -> None:
            read = read_same_model(*model)
            storage.retrying(
                lambda: complete_assignments(
                    source, read, written, folder, num_shards, max_rejected, analysis
                )
            )

        write = WriteAssignments(source, self._model, folder, num_shards, analysis)
        written = begin | "Pieces" >> Pieces(source, num_shards) | "Write" >> beam.ParDo(write)
        return in_one_place(written, complete)

"""Beam wiring: pieces of a source become shards, then a manifest.

What happens to a piece is a plain function of `pipeline.write`. Steps have one input, one output
and integers as keys, because every engine groups these alike.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipeline import storage
from pipeline.features import Accumulator, Transform
from pipeline.features.source import Transformed
from pipeline.shards import plan
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import DEFAULT_FRACTION
from pipeline.sources import Listed, Planned, Source
from pipeline.transforms.runner import NAMESPACE
from pipeline.write import WrittenShard, accumulate_piece, complete_set, write_shard


class ListImages(beam.DoFn):
    """Lists the images of a part of a source: → (number of the shard, chunk of its Listing)."""

    def __init__(self, source: Listed, num_shards: int):
        self._source, self._num_shards = source, num_shards

    def process(self, part: Any) -> Iterator[tuple[int, tuple[int, bytes]]]:
        yield from plan.grouped(self._source.list_part(part), self._num_shards)


class AccumulatePieces(beam.CombineFn):
    """Adds up what a transform is learned from, over all pieces."""

    def __init__(self, source: Transformed):
        self._source = source

    def create_accumulator(self) -> Accumulator:
        return self._source.accumulator()

    def add_input(self, accumulator: Accumulator, piece: Piece | Listing) -> Accumulator:
        return accumulator.merge(storage.retrying(lambda: accumulate_piece(self._source, piece)))

    def merge_accumulators(self, parts: Iterable[Accumulator]) -> Accumulator:
        return functools.reduce(lambda one, other: one.merge(other), parts)

    def extract_output(self, accumulator: Accumulator) -> Accumulator:
        return accumulator


class WriteShard(beam.DoFn):
    """Calls `write_shard` for each piece; counts images, bytes and milliseconds a shard."""

    def __init__(self, source: Source, folder: str, num_shards: int):
        self._source, self._folder, self._num_shards = source, folder, num_shards
        self._images = Metrics.counter(NAMESPACE, "images")
        self._rejected = Metrics.counter(NAMESPACE, "rejected")
        self._bytes = Metrics.counter(NAMESPACE, "bytes")
        self._milliseconds = Metrics.distribution(NAMESPACE, "shard_milliseconds")

    def process(self, piece: Piece | Listing) -> Iterator[WrittenShard]:
        start = time.monotonic()
        written = storage.retrying(
            lambda: write_shard(self._source, piece, self._folder, self._num_shards)
        )
        self._images.inc(written.shard.num_images)
        self._rejected.inc(written.num_rejected)
        self._bytes.inc(written.shard.num_bytes)
        self._milliseconds.update(int(1000 * (time.monotonic() - start)))
        yield written


class EmbedImages(ModelHandler[Piece, WrittenShard, Transform]):
    """Calls `write_shard` for each piece of images that a model turns into vectors.

    Beam's RunInference loads the model once in a process. It is given pieces, not images: so no
    pixels travel between workers, and a piece that is tried again makes the same shard.
    """

    def __init__(self, source: Transformed, folder: str, num_shards: int):
        super().__init__(max_batch_size=1)
        self._source, self._folder, self._num_shards = source, folder, num_shards

    def load_model(self) -> Transform:
        return storage.retrying(self._source.load)

    def run_inference(
        self, batch: Sequence[Piece], model: Transform, inference_args: Any = None
    ) -> Iterator[WrittenShard]:
        source = dataclasses.replace(self._source, transform=model)
        write = WriteShard(source, self._folder, self._num_shards)
        for piece in batch:
            yield from write.process(piece)

    def get_metrics_namespace(self) -> str:
        return NAMESPACE


class Pieces(beam.PTransform):
    """Spreads the pieces of a source over the workers, from the beginning or after a signal."""

    def __init__(self, source: Planned | Listed, num_shards: int):
        super().__init__()
        self._source, self._num_shards = source, num_shards

    def expand(self, begin):
        source, num_shards = self._source, self._num_shards
        if not isinstance(source, Listed):
            return _spread(begin, plan.pieces(source.num_images, num_shards))
        plan.check_num_shards(source.num_images, num_shards)
        return (
            _spread(begin, source.parts())
            | "List" >> beam.ParDo(ListImages(source, num_shards))
            | "Group" >> beam.GroupByKey()
            | "Join" >> beam.MapTuple(lambda number, found: Listing(number, list(found)))
        )


def _spread(begin, values: list):
    """Hands `values` one by one to any worker, from the beginning or after a signal."""
    if isinstance(begin, beam.pvalue.PBegin):
        # Create, because not every engine (Dask) shuffles what one worker made onto others.
        return begin | beam.Create(values) | beam.Reshuffle()
    return begin | beam.FlatMap(lambda _: values) | beam.Reshuffle()


class ShardImages(beam.PTransform):
    """Turns a source into the shards and the manifest of a folder.

    Where a transform is learned from the images, all are read before the first shard is written.
    """

    def __init__(
        self,
        source: Planned | Listed | Transformed,
        folder: str,
        num_shards: int,
        max_rejected: float = DEFAULT_FRACTION,
    ):
        super().__init__()
        self._source, self._folder = source, folder
        self._num_shards, self._max_rejected = num_shards, max_rejected

    def expand(self, begin):
        source, folder, num_shards = self._source, self._folder, self._num_shards
        # Not `self`: what a step refers to is pickled with it.
        max_rejected = self._max_rejected

        def complete(written: list[WrittenShard]) -> None:
            storage.retrying(
                lambda: complete_set(source, written, folder, num_shards, max_rejected)
            )

        write: beam.PTransform = beam.ParDo(WriteShard(source, folder, num_shards))
        if isinstance(source, Transformed):
            if source.is_learned:
                begin = begin | "Survey" >> LearnTransform(source, num_shards)
            else:
                write = RunInference(EmbedImages(source, folder, num_shards))
        written = begin | "Pieces" >> Pieces(source, num_shards) | "Write" >> write
        return in_one_place(written, complete)


class LearnTransform(beam.PTransform):
    """Learns the transform of a source from all its images and saves it, then gives a signal."""

    def __init__(self, source: Transformed, num_shards: int):
        super().__init__()
        self._source, self._num_shards = source, num_shards

    def expand(self, begin):
        source = self._source
        return (
            begin
            | "Pieces" >> Pieces(source, self._num_shards)
            | "Sum" >> beam.CombineGlobally(AccumulatePieces(source)).without_defaults()
            | "Save"
            >> beam.Map(
                lambda accumulator: storage.retrying(functools.partial(source.learn, accumulator))
            )
        )


def in_one_place(written, complete: Callable[[list], None]):
    """Calls `complete` on one worker with all that was written, in any order."""
    return (
        written
        | "Key" >> beam.Map(lambda written: (0, written))
        | "Collect" >> beam.GroupByKey()
        | "Complete" >> beam.MapTuple(lambda _, written: complete(list(written)))
    )

"""Beam wiring: pieces of a source become shards, then a manifest.

What happens at each step is a plain function; the engine's part is to call it somewhere, maybe
twice. Steps have one input, one output and integers as keys: every engine groups these alike.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import Accumulator, Transform
from pipeline.features.source import Transformed
from pipeline.shards import plan
from pipeline.shards.block import Fingerprint, ShardWriter
from pipeline.shards.manifest import MANIFEST, Manifest, Shard, shard_file
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import (
    DEFAULT_FRACTION,
    REJECTED,
    check_fraction,
    merge_parts,
    part_file,
    write_part,
)
from pipeline.sources import Listed, Planned, Rejection, Source
from pipeline.sources.checks import digit_names


class Part(Protocol):
    """What was made of one piece.

    Attributes:
      number: of the piece.
      shard: the file, which is in place.
      num_rejected: images of the piece that are not in it.
    """

    @property
    def number(self) -> int: ...
    @property
    def shard(self) -> Shard: ...
    @property
    def num_rejected(self) -> int: ...


class Written(NamedTuple):
    """A shard that is in place.

    Attributes:
      number: of the shard.
      fingerprint: of its images.
      num_rejected: images of its piece that are not in it.
      num_labels: 1 + its largest label; 0 in an unlabelled set.
    """

    number: int
    shard: Shard
    fingerprint: Fingerprint
    num_rejected: int
    num_labels: int


def write_shard(source: Source, piece: Piece | Listing, folder: str, num_shards: int) -> Written:
    """Reads one piece of `source` block by block and publishes it as one shard in `folder`."""
    name = shard_file(piece.number, num_shards)
    rejections = []
    num_labels = 0
    with storage.publish(storage.join(folder, name)) as file:
        writer = ShardWriter(file)
        for found in source.read(piece):
            if isinstance(found, Rejection):
                rejections.append(found)
                continue
            writer.write(found)
            if found.labels is not None:
                num_labels = max(num_labels, 1 + int(found.labels.max()))
    if rejections:
        write_part(storage.join(folder, part_file(piece.number, num_shards)), rejections)
    shard = writer.shard(name)
    return Written(piece.number, shard, writer.fingerprint, len(rejections), num_labels)


def complete(
    source: Source,
    written: Iterable[Written],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
) -> None:
    """Publishes the manifest, which completes the set, and removes what only led to it.

    An engine may call it again after it has been interrupted.

    Raises:
      UserError: too many images were rejected.
    """
    parts = {part.number: part for part in written}
    for number in set(range(num_shards)) - parts.keys():
        # No hash of a path fell on it.
        parts[number] = write_shard(source, Listing(number, []), folder, num_shards)
    ordered = [parts[number] for number in sorted(parts)]
    manifest = make_manifest(source, ordered)
    settle(ordered, folder, num_shards, max_rejected)
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())


def settle(
    written: Sequence[Part], folder: str, num_shards: int, max_rejected: float = DEFAULT_FRACTION
) -> None:
    """Publishes rejected.jsonl, if an image was, and removes what only led to it.

    Args:
      written: all parts, in order.

    Raises:
      UserError: too many images were rejected.
    """
    num_rejected = sum(part.num_rejected for part in written)
    if num_rejected and not storage.exists(storage.join(folder, REJECTED)):
        merge_parts(folder, (part_file(p.number, num_shards) for p in written if p.num_rejected))
    remove_leftovers(folder)
    if num_rejected:
        num_images = sum(part.shard.num_images for part in written)
        check_fraction(num_rejected, num_images, max_rejected, folder)


def make_manifest(source: Source, written: list[Written]) -> Manifest:
    """The manifest of the shards `written`, which are in order."""
    fingerprint = Fingerprint()
    for part in written:
        fingerprint = fingerprint.merge(part.fingerprint)
    transform = source.describe() if isinstance(source, Transformed) else None
    if transform is not None:
        fingerprint.add_transform(transform)
    return Manifest(
        image_shape=source.image_shape,
        num_features=math.prod(source.image_shape),
        dtype=source.dtype,
        num_images=sum(part.shard.num_images for part in written),
        label_names=label_names(source, max(part.num_labels for part in written)),
        shards=tuple(part.shard for part in written),
        num_rejected=sum(part.num_rejected for part in written),
        source=source.request.describe(),
        fingerprint=fingerprint.hex(),
        transform=transform,
    )


def remove_leftovers(folder: str) -> None:
    """Removes parts of rejected.jsonl, and temporary files of workers that died."""
    for name in storage.list_names(folder):
        if name.startswith("rejected-") or name.endswith(storage.TEMPORARY_SUFFIX):
            storage.remove(storage.join(folder, name))


def label_names(source: Source, num_labels: int) -> tuple[str, ...] | None:
    """Names of the labels 0, 1, … of `source`, in which `num_labels` occur."""
    names = source.label_names
    if names == ():
        return digit_names(num_labels)
    if names is not None and num_labels > len(names):
        raise UserError(
            f"--input {source.request}: label {num_labels - 1}, but only {len(names)} names of "
            "labels; mend the one or the other"
        )
    return names


def accumulate(source: Transformed, piece: Piece | Listing) -> Accumulator:
    """Reads the images of one piece block by block, for what is learned from all of them."""
    accumulator = source.accumulator()
    for found in source.source.read(piece):
        if not isinstance(found, Rejection):
            accumulator.add(found.pixels)
    return accumulator


class ListImages(beam.DoFn):
    """A part of a source → (shard, chunk of its Listing)."""

    def __init__(self, source: Listed, num_shards: int):
        self._source, self._num_shards = source, num_shards

    def process(self, part: int) -> Iterator[tuple[int, tuple[int, bytes]]]:
        yield from plan.grouped(self._source.list_part(part), self._num_shards)


class Accumulate(beam.CombineFn):
    """Pieces → the accumulator of all their images."""

    def __init__(self, source: Transformed):
        self._source = source

    def create_accumulator(self) -> Accumulator:
        return self._source.accumulator()

    def add_input(self, accumulator: Accumulator, piece: Piece | Listing) -> Accumulator:
        return accumulator.merge(storage.retrying(lambda: accumulate(self._source, piece)))

    def merge_accumulators(self, parts: Iterable[Accumulator]) -> Accumulator:
        return functools.reduce(lambda one, other: one.merge(other), parts)

    def extract_output(self, accumulator: Accumulator) -> Accumulator:
        return accumulator


class WriteShard(beam.DoFn):
    """`write_shard` for each piece, counted: images, bytes and milliseconds a shard."""

    def __init__(self, source: Source, folder: str, num_shards: int):
        self._source, self._folder, self._num_shards = source, folder, num_shards
        self._images = Metrics.counter("kmeans-job", "images")
        self._rejected = Metrics.counter("kmeans-job", "rejected")
        self._bytes = Metrics.counter("kmeans-job", "bytes")
        self._milliseconds = Metrics.distribution("kmeans-job", "shard_milliseconds")

    def process(self, piece: Piece | Listing) -> Iterator[Written]:
        start = time.monotonic()
        written = storage.retrying(
            lambda: write_shard(self._source, piece, self._folder, self._num_shards)
        )
        self._images.inc(written.shard.num_images)
        self._rejected.inc(written.num_rejected)
        self._bytes.inc(written.shard.num_bytes)
        self._milliseconds.update(int(1000 * (time.monotonic() - start)))
        yield written


class EmbedImages(ModelHandler[Piece, Written, Transform]):
    """`write_shard` for each piece of images that a model, loaded once in a process, embeds.

    What it infers from is a piece, not an image: no pixels travel, and a piece that is tried again
    makes the same shard.
    """

    def __init__(self, source: Transformed, folder: str, num_shards: int):
        super().__init__(max_batch_size=1)
        self._source, self._folder, self._num_shards = source, folder, num_shards

    def load_model(self) -> Transform:
        return storage.retrying(self._source.load)

    def run_inference(
        self, batch: Sequence[Piece], model: Transform, inference_args: Any = None
    ) -> Iterator[Written]:
        source = dataclasses.replace(self._source, transform=model)
        write = WriteShard(source, self._folder, self._num_shards)
        for piece in batch:
            yield from write.process(piece)

    def get_metrics_namespace(self) -> str:
        return "kmeans-job"


class Pieces(beam.PTransform):
    """The pieces of a source, on many workers; from the beginning, or after a signal."""

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
    """`values` from the beginning, or after a signal, one by one to any worker."""
    if isinstance(begin, beam.pvalue.PBegin):
        # Not every engine (Dask) shuffles what one worker made onto others.
        return begin | beam.Create(values) | beam.Reshuffle()
    return begin | beam.FlatMap(lambda _: values) | beam.Reshuffle()


class ShardImages(beam.PTransform):
    """A source → the shards and the manifest of a folder.

    Where a transform is learned from the images, all are read before the first is written.
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
        max_rejected = self._max_rejected

        def end(written: list[Written]) -> None:
            storage.retrying(lambda: complete(source, written, folder, num_shards, max_rejected))

        write: beam.PTransform = beam.ParDo(WriteShard(source, folder, num_shards))
        if isinstance(source, Transformed):
            if source.is_learned:
                begin = begin | "Survey" >> Learn(source, num_shards)
            else:
                write = RunInference(EmbedImages(source, folder, num_shards))
        written = begin | "Pieces" >> Pieces(source, num_shards) | "Write" >> write
        return in_one_place(written, end)


class Learn(beam.PTransform):
    """A signal to begin → the transform learned from a source in its file → another signal."""

    def __init__(self, source: Transformed, num_shards: int):
        super().__init__()
        self._source, self._num_shards = source, num_shards

    def expand(self, begin):
        source = self._source
        return (
            begin
            | "Pieces" >> Pieces(source, self._num_shards)
            | "Sum" >> beam.CombineGlobally(Accumulate(source)).without_defaults()
            | "Save"
            >> beam.Map(
                lambda accumulator: storage.retrying(functools.partial(source.learn, accumulator))
            )
        )


def in_one_place(written, end: Callable[[list], None]):
    """Calls `end` with all that was written, in any order."""
    return (
        written
        | "Key" >> beam.Map(lambda written: (0, written))
        | "Collect" >> beam.GroupByKey()
        | "Complete" >> beam.MapTuple(lambda _, written: end(list(written)))
    )

"""Beam wiring: pieces of a source become shards, then a manifest."""

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import storage
from pipeline.plan import Piece
from pipeline.shards import MANIFEST, Fingerprint, Manifest, Shard, ShardWriter, shard_file
from pipeline.sources import Source


class Written(NamedTuple):
    """A shard that is in place, and the fingerprint of its images."""

    shard: Shard
    fingerprint: Fingerprint


def write_shard(source: Source, piece: Piece, folder: str, num_shards: int) -> Written:
    """Reads one piece of `source` block by block and publishes it as one shard in `folder`."""
    name = shard_file(piece.number, num_shards)
    with storage.publish(storage.join(folder, name)) as file:
        writer = ShardWriter(file)
        for block in source.read(piece):
            writer.write(block)
    return Written(writer.shard(name), writer.fingerprint)


def write_manifest(source: Source, written: list[Written], folder: str) -> Manifest:
    """Publishes the manifest, which completes the set."""
    fingerprint = Fingerprint()
    for part in written:
        fingerprint = fingerprint.merge(part.fingerprint)
    shards = tuple(sorted((part.shard for part in written), key=lambda shard: shard.file))
    manifest = Manifest(
        image_shape=source.image_shape,
        num_features=math.prod(source.image_shape),
        dtype=source.dtype,
        num_images=sum(shard.num_images for shard in shards),
        label_names=source.label_names,
        shards=shards,
        num_rejected=0,
        source=source.describe(),
        fingerprint=fingerprint.hex(),
    )
    storage.write_bytes(storage.join(folder, MANIFEST), manifest.to_json())
    return manifest


class WriteShard(beam.DoFn):
    """`write_shard` for each piece, counted: images, bytes and milliseconds a shard."""

    def __init__(self, source: Source, folder: str, num_shards: int):
        self._source, self._folder, self._num_shards = source, folder, num_shards
        self._images = Metrics.counter("kmeans-job", "images")
        self._bytes = Metrics.counter("kmeans-job", "bytes")
        self._milliseconds = Metrics.distribution("kmeans-job", "shard_milliseconds")

    def process(self, piece: Piece) -> Iterator[Written]:
        start = time.monotonic()
        written = write_shard(self._source, piece, self._folder, self._num_shards)
        self._images.inc(written.shard.num_images)
        self._bytes.inc(written.shard.num_bytes)
        self._milliseconds.update(int(1000 * (time.monotonic() - start)))
        yield written


class ShardImages(beam.PTransform):
    """A source → the shards and the manifest of a folder."""

    def __init__(self, source: Source, folder: str, pieces: list[Piece]):
        super().__init__()
        self._source, self._folder, self._pieces = source, folder, pieces

    def expand(self, begin):
        return (
            begin
            | "Pieces" >> beam.Create(self._pieces)
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(WriteShard(self._source, self._folder, len(self._pieces)))
            | "Collect" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Complete"
            >> beam.Map(lambda written: write_manifest(self._source, written, self._folder))
        )

"""Writing shards, in plain functions: one piece of a source, then what completes the set.

An engine calls them on any machine, perhaps twice for the same piece. So each of them may be
repeated: it writes the same bytes again under the same names.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import Accumulator
from pipeline.features.source import Transformed
from pipeline.pieces import PieceReader, SeenLabels, WrittenPiece
from pipeline.rewrite import notes_are_gone, remove_id_notes, rewritten
from pipeline.shards.block import Block, Fingerprint, ShardWriter
from pipeline.shards.manifest import (
    MANIFEST,
    Manifest,
    SeenWeights,
    Shard,
    WeightsEntry,
    shard_file,
)
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import (
    DEFAULT_FRACTION,
    REJECTED,
    check_fraction,
    merge_parts,
    part_file,
)
from pipeline.shards.thumbnails import with_thumbnails
from pipeline.sources import Source
from pipeline.sources.checks import digit_names
from pipeline.sources.protocol import Renamable, Request

LEAST_WEIGHT = 1e-100  # of the largest weight; its inverse is the most


class WrittenShard(NamedTuple):
    """A shard that is published.

    Attributes:
      number: the number of the piece, and of the shard.
      shard: its entry in the manifest.
      fingerprint: the fingerprint of its images.
      num_rejected: images of the piece that could not be read and are not in the shard.
      labels: what was seen of the labels of its images.
      weights: what was seen of their weights.
    """

    number: int
    shard: Shard
    fingerprint: Fingerprint
    num_rejected: int
    labels: SeenLabels
    weights: SeenWeights


def write_shard(
    source: Source, piece: Piece | Listing, folder: str, num_shards: int
) -> WrittenShard:
    """Reads one piece of `source` block by block and publishes it as a shard in `folder`.

    Raises:
      UserError: the source cannot be read, or the shard cannot be written.
    """
    reader = PieceReader(source, piece)
    written = _write_blocks(reader, folder, num_shards)
    reader.write_notes(folder, num_shards)
    return written


def _write_blocks(reader: PieceReader, folder: str, num_shards: int) -> WrittenShard:
    number = reader.piece.number
    name = shard_file(number, num_shards)
    with storage.publish(storage.join(folder, name)) as file:
        writer = ShardWriter(file)
        for block in _with_thumbnails(reader):
            writer.write(block)
    shard, rejected = writer.shard(name), len(reader.rejections)
    seen = reader.labels, reader.weights
    return WrittenShard(number, shard, writer.fingerprint, rejected, *seen)


def _with_thumbnails(reader: PieceReader) -> Iterable[Block]:
    """Adds thumbnails to large images; vectors have them already, of their images."""
    source = reader.source
    if isinstance(source, Transformed):
        return reader
    return with_thumbnails(reader, source.image_shape, source.request.thumbnails, always=False)


def accumulate_piece(source: Transformed, piece: Piece | Listing) -> Accumulator:
    """Reads one piece block by block, for a transform that is learned from all."""
    accumulator = source.accumulator()
    for found in source.survey(piece):
        if isinstance(found, Block):
            accumulator.add(found.pixels)
    return accumulator


def complete_set(
    source: Source,
    written: Iterable[WrittenShard],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
) -> None:
    """Completes a set of shards: removes temporary files and publishes the manifest.

    Args:
      written: all shards, in any order. An engine may give one twice, and none for a piece of a
        listed source that got no image; this function writes an empty shard for it.
      max_rejected: the largest share of images that may be rejected.

    Raises:
      UserError: too many images were rejected, the labels do not fit their names, or no image has
        a weight.
    """
    by_number = {part.number: part for part in written}
    for number in set(range(num_shards)) - by_number.keys():
        by_number[number] = write_shard(source, Listing(number, []), folder, num_shards)
    ordered = [by_number[number] for number in sorted(by_number)]
    if isinstance(source, Renamable):
        if notes_are_gone(folder, num_shards):
            return
        source, ordered = rewritten(
            source,
            ordered,
            folder,
            num_shards,
            lambda source, piece: _write_blocks(PieceReader(source, piece), folder, num_shards),
        )
    manifest = make_manifest(source, ordered)
    settle(ordered, folder, num_shards, max_rejected)
    # Last: a reader that sees the manifest may rely on everything else.
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())
    remove_id_notes(folder)


def settle(
    written: Sequence[WrittenPiece],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
) -> None:
    """Joins the parts of rejected.jsonl, if there are any, and removes temporary files.

    Args:
      written: all pieces, in order.

    Raises:
      UserError: too many images were rejected.
    """
    num_rejected = sum(part.num_rejected for part in written)
    # An earlier call that was interrupted may have joined the parts and removed them.
    if num_rejected and not storage.exists(storage.join(folder, REJECTED)):
        merge_parts(folder, (part_file(p.number, num_shards) for p in written if p.num_rejected))
    remove_leftovers(folder)
    if num_rejected:
        num_images = sum(part.shard.num_images for part in written)
        check_fraction(num_rejected, num_images, max_rejected, folder)


def make_manifest(source: Source, written: Sequence[WrittenShard]) -> Manifest:
    """Makes the manifest of the shards `written`, which are in order.

    Raises:
      UserError: the labels do not fit their names, or no image has a weight.
    """
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
        label_names=label_names(source, written),
        shards=tuple(part.shard for part in written),
        num_rejected=sum(part.num_rejected for part in written),
        num_skipped=source.num_skipped,
        source=source.request.describe(),
        fingerprint=fingerprint.hex(),
        transform=transform,
        thumbnails=source.request.thumbnails,
        weights=weights_entry(source.request, (part.weights for part in written)),
    )


def weights_entry(request: Request, seen: Iterable[SeenWeights]) -> WeightsEntry | None:
    """Makes the manifest's entry for the weights of the images; None if none were asked for.

    Raises:
      UserError: the largest weight is 0, or no number that products with it keep.
    """
    if not request.wants_weights:
        return None
    largest, are_whole = functools.reduce(SeenWeights.merge, seen)
    where = f"--weight-column {request.weight_column}: {request}"
    if not largest:
        raise UserError(f"{where}: all weights are 0; give at least one image another one")
    if not LEAST_WEIGHT <= largest <= 1 / LEAST_WEIGHT:
        raise UserError(
            f"{where}: the largest weight is {largest:.3g}; multiply all by a power of ten, so "
            "that it is about 1"
        )
    return WeightsEntry(str(request.weight_column), largest, are_whole)


def remove_leftovers(folder: str) -> None:
    """Removes parts of rejected.jsonl, and temporary files of workers that died."""
    for name in storage.list_names(folder):
        if name.startswith("rejected-") or name.endswith(storage.TEMPORARY_SUFFIX):
            storage.remove(storage.join(folder, name))


def label_names(source: Source, written: Sequence[WrittenPiece]) -> tuple[str, ...] | None:
    """Returns names of all labels in `written`, and perhaps of more; None if there is no label.

    Raises:
      UserError: the source has names for fewer labels.
    """
    names = source.label_names
    numbers = functools.reduce(SeenLabels.merge, (part.labels for part in written)).numbers
    num_labels = 1 + max(numbers, default=-1)
    if not num_labels:
        return None
    if names == ():
        return digit_names(num_labels)
    if names is not None and num_labels > len(names):
        raise UserError(
            f"--input {source.request}: label {num_labels - 1}, but only {len(names)} names of "
            "labels; correct the label or add the name"
        )
    return names

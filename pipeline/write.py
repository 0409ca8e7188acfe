"""Writing shards, in plain functions: one piece of a source, then what completes the set.

An engine calls them on any machine, perhaps twice for the same piece. So each of them may be
repeated: it writes the same bytes again under the same names.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import Accumulator
from pipeline.features.source import Transformed
from pipeline.shards.block import Block, Fingerprint, ShardWriter
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
from pipeline.sources import Rejection, Source
from pipeline.sources.checks import digit_names


class WrittenPiece(Protocol):
    """A piece whose file is written, be it a shard or assignments.

    Attributes:
      number: the number of the piece.
      shard: the manifest's entry for the file.
      num_rejected: images of the piece that could not be read and are not in the file.
    """

    @property
    def number(self) -> int: ...
    @property
    def shard(self) -> Shard: ...
    @property
    def num_rejected(self) -> int: ...


class WrittenShard(NamedTuple):
    """A shard that is published.

    Attributes:
      number: the number of the piece, and of the shard.
      shard: its entry in the manifest.
      fingerprint: the fingerprint of its images.
      num_rejected: images of the piece that could not be read and are not in the shard.
      num_labels: 1 + the largest label of its images; 0 in an unlabelled set.
    """

    number: int
    shard: Shard
    fingerprint: Fingerprint
    num_rejected: int
    num_labels: int


def write_shard(
    source: Source, piece: Piece | Listing, folder: str, num_shards: int
) -> WrittenShard:
    """Reads one piece of `source` block by block and publishes it as a shard in `folder`.

    Raises:
      UserError: the source cannot be read, or the shard cannot be written.
    """
    name = shard_file(piece.number, num_shards)
    rejections: list[Rejection] = []
    num_labels = 0
    with storage.publish(storage.join(folder, name)) as file:
        writer = ShardWriter(file)
        for block in read_piece(source, piece, rejections):
            writer.write(block)
            num_labels = max(num_labels, count_labels(block))
    write_rejections(rejections, folder, piece.number, num_shards)
    shard = writer.shard(name)
    return WrittenShard(piece.number, shard, writer.fingerprint, len(rejections), num_labels)


def read_piece(
    source: Source, piece: Piece | Listing, rejections: list[Rejection]
) -> Iterator[Block]:
    """Yields the images of a piece; appends to `rejections` those that cannot be read."""
    for found in source.read(piece):
        if isinstance(found, Rejection):
            rejections.append(found)
        else:
            yield found


def count_labels(block: Block) -> int:
    """Returns 1 + the largest label of `block`; 0 if its images have none."""
    return 0 if block.labels is None else 1 + int(block.labels.max())


def write_rejections(
    rejections: Sequence[Rejection], folder: str, number: int, num_shards: int
) -> None:
    """Writes the rejected images of piece `number`, if any, as a part of rejected.jsonl."""
    if rejections:
        write_part(storage.join(folder, part_file(number, num_shards)), rejections)


def accumulate_piece(source: Transformed, piece: Piece | Listing) -> Accumulator:
    """Reads the images of one piece block by block, for a transform that is learned from all."""
    accumulator = source.accumulator()
    for block in read_piece(source.source, piece, []):
        accumulator.add(block.pixels)
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
      UserError: too many images were rejected, or the labels do not fit their names.
    """
    by_number = {part.number: part for part in written}
    for number in set(range(num_shards)) - by_number.keys():
        by_number[number] = write_shard(source, Listing(number, []), folder, num_shards)
    ordered = [by_number[number] for number in sorted(by_number)]
    manifest = make_manifest(source, ordered)
    settle(ordered, folder, num_shards, max_rejected)
    # Last: a reader that sees the manifest may rely on everything else.
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())


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
      UserError: the labels do not fit their names.
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
    """Returns names of the labels 0 … `num_labels` − 1, or of more; None in an unlabelled set.

    Raises:
      UserError: the source has names for fewer labels.
    """
    names = source.label_names
    if names == ():
        return digit_names(num_labels)
    if names is not None and num_labels > len(names):
        raise UserError(
            f"--input {source.request}: label {num_labels - 1}, but only {len(names)} names of "
            "labels; correct the label or add the name"
        )
    return names

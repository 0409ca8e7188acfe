"""Blocks of images, the records of a shard: how they are written, hashed and read.

A shard is a TFRecord file; a record is a `tf.train.Example` that holds one block.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

import google_crc32c
import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.manifest import Manifest, Shard, TransformFile
from pipeline.shards.tfrecord import DamagedRecord, Example, frame, read_records

_FINGERPRINT_BYTES = 16


class Block(NamedTuple):
    """Up to B images.

    Attributes:
      ids: B strings, unique in the set.
      labels: int64 [B], −1 where an image has none; or None in an unlabelled set.
      pixels: uint8 or float32 [B, d], a flattened image in each row.
      thumbnails: B small pictures, files of PNG or WebP, where the pixels are none or large.
      weights: float64 [B], ≥ 0; or None in an unweighted set.
    """

    ids: list[str]
    labels: np.ndarray | None
    pixels: np.ndarray
    thumbnails: list[bytes] | None = None
    weights: np.ndarray | None = None

    def split(self, size: int) -> "Iterator[Block]":
        """Cuts the block into blocks of up to `size` images, which share its memory."""
        for start, stop in plan.spans(0, len(self.ids), size):
            labels = None if self.labels is None else self.labels[start:stop]
            thumbnails = None if self.thumbnails is None else self.thumbnails[start:stop]
            weights = None if self.weights is None else self.weights[start:stop]
            yield Block(self.ids[start:stop], labels, self.pixels[start:stop], thumbnails, weights)


def split(found: Iterable[Any], size: int) -> Iterator[Any]:
    """Cuts blocks into blocks of up to `size` images; passes on all else."""
    for each in found:
        if isinstance(each, Block):
            yield from each.split(size)
        else:
            yield each


def regrouped(found: Iterable[Any], size: int) -> Iterator[Any]:
    """Makes blocks of `size` images, the last one smaller; passes on all else, perhaps earlier."""
    waiting: list[Block] = []
    for each in split(found, size):
        if not isinstance(each, Block):
            yield each
            continue
        room = size - sum(len(block.ids) for block in waiting)
        first, *rest = each.split(room) if len(each.ids) > room else (each,)
        waiting.append(first)
        if len(first.ids) == room:
            yield joined(waiting)
            waiting = rest
    if waiting:
        yield joined(waiting)


def joined(blocks: Sequence[Block]) -> Block:
    """Joins the images of blocks that all have labels, thumbnails and weights, or none has."""
    if len(blocks) == 1:
        return blocks[0]
    ids = [image_id for block in blocks for image_id in block.ids]
    pixels = np.concatenate([block.pixels for block in blocks])
    thumbnails = [one for block in blocks for one in block.thumbnails or ()]
    labels, weights = (
        np.concatenate(parts) if parts else None
        for parts in (
            [block.labels for block in blocks if block.labels is not None],
            [block.weights for block in blocks if block.weights is not None],
        )
    )
    return Block(ids, labels, pixels, thumbnails or None, weights)


class Fingerprint:
    """Hashes a set of images: the sum of its images' hashes, so that order does not matter."""

    def __init__(self, total: int = 0):
        self._total = total

    def add(self, block: Block) -> None:
        """Adds the images of `block`."""
        labels = block.labels if block.labels is not None else np.full(len(block.ids), -1)
        weights = [b""] * len(block.ids)
        if block.weights is not None:
            weights = [struct.pack("<d", weight) for weight in block.weights.tolist()]
        for image_id, label, weight, row in zip(
            block.ids, labels.tolist(), weights, block.pixels, strict=True
        ):
            name = image_id.encode()
            # The length first: without it, the end of an id could pass for pixels.
            head = struct.pack("<qq", len(name), label) + weight + name
            digest = hashlib.blake2b(head, digest_size=_FINGERPRINT_BYTES)
            digest.update(row)
            self._total += int.from_bytes(digest.digest(), "little")

    def add_transform(self, file: TransformFile) -> None:
        """Adds the transform that made vectors of the images."""
        content = f"{file.num_bytes} {file.crc32c}".encode()
        digest = hashlib.blake2b(content, digest_size=_FINGERPRINT_BYTES, person=b"transform")
        self._total += int.from_bytes(digest.digest(), "little")

    def merge(self, other: "Fingerprint") -> "Fingerprint":
        """Returns the fingerprint of both sets together: associative and commutative."""
        return Fingerprint(self._total + other._total)

    def hex(self) -> str:
        """Returns the fingerprint as 32 hexadecimal digits."""
        return f"{self._total % (1 << 8 * _FINGERPRINT_BYTES):0{2 * _FINGERPRINT_BYTES}x}"


class ShardWriter:
    """Writes blocks to a file, and computes the manifest's entry for it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._crc = self.num_bytes = self.num_images = 0
        self.fingerprint = Fingerprint()

    def write(self, block: Block) -> None:
        """Appends one block as one record."""
        for part in frame(encode_block(block)):
            self._file.write(part)
            self._crc = google_crc32c.extend(self._crc, part)
            self.num_bytes += len(part)
        self.num_images += len(block.ids)
        self.fingerprint.add(block)

    def shard(self, file: str) -> Shard:
        """Returns the manifest's entry for what was written, under the name `file`."""
        return Shard(file, self.num_images, self.num_bytes, f"{self._crc:08x}")


def encode_block(block: Block) -> bytes:
    """Serializes a block as a tf.train.Example."""
    example = Example()
    feature = example.features.feature
    feature["images"].bytes_list.value.append(np.ascontiguousarray(block.pixels).tobytes())
    feature["ids"].bytes_list.value.extend(image_id.encode() for image_id in block.ids)
    # Absent where no image has a label: a set may turn out to be unlabelled only at its end.
    if block.labels is not None and (block.labels >= 0).any():
        feature["labels"].int64_list.value.extend(block.labels.tolist())
    if block.thumbnails is not None:
        feature["thumbnails"].bytes_list.value.extend(block.thumbnails)
    if block.weights is not None:  # as bytes, since a list of floats would round them to float32
        feature["weights"].bytes_list.value.append(block.weights.astype("<f8").tobytes())
    return example.SerializeToString(deterministic=True)


class Layout(Protocol):
    """What decides how the bytes of a block are read, as a manifest does."""

    @property
    def dtype(self) -> str: ...
    @property
    def num_features(self) -> int: ...
    @property
    def label_names(self) -> tuple[str, ...] | None: ...


def decode_block(data: bytes, manifest: Layout) -> Block:
    """Reads the block in a serialized tf.train.Example; its pixels are read-only."""
    feature = Example.FromString(data).features.feature
    pixels = np.frombuffer(feature["images"].bytes_list.value[0], manifest.dtype)
    labels = None
    if manifest.label_names is not None:
        labels = np.array(feature["labels"].int64_list.value, np.int64)
    ids = [image_id.decode() for image_id in feature["ids"].bytes_list.value]
    if labels is not None and not len(labels):
        labels = np.full(len(ids), -1)
    thumbnails = [*feature["thumbnails"].bytes_list.value] if "thumbnails" in feature else None
    weights = None
    if "weights" in feature:
        weights = np.frombuffer(feature["weights"].bytes_list.value[0], "<f8")
    pixels = pixels.reshape(len(ids), manifest.num_features)
    return Block(ids, labels, pixels, thumbnails, weights)


def read_shard(folder: str, shard: Shard, manifest: Manifest) -> Iterator[Block]:
    """Reads the blocks of one shard, one in memory at a time.

    Raises:
      UserError: the file is not the one that the manifest describes, which may be known only after
        the last block.
    """
    path = storage.join(folder, shard.file)
    altered = f"{path}: altered since it was written; shard the set again"
    crc = num_images = 0
    with storage.open_read(path) as file:
        try:
            for record in read_records(file):
                for part in record:
                    crc = google_crc32c.extend(crc, part)
                block = decode_block(record.data, manifest)
                num_images += len(block.ids)
                yield block
        except DamagedRecord as error:
            raise UserError(f"{altered} ({error})") from error
    if f"{crc:08x}" != shard.crc32c or num_images != shard.num_images:
        raise UserError(f"{altered} (crc32c {crc:08x} instead of {shard.crc32c})")

"""Blocks of images as records of a file, and the manifest that makes files a set.

A shard is a TFRecord file; a record is a `tf.train.Example` that holds one block.
"""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.tfrecord import (DamagedRecord, Example, frame, read_records)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_ENDING = ".tfrecord"
TRANSFORM_FILES = ("transform.npz", "transform.keras", "transform.h5")
_FINGERPRINT_BYTES = 16


class Block(NamedTuple):
    """Up to B images.

    Attributes:
      ids: B strings, unique in the set.
      labels: int64 [B], or None in an unlabelled set.
      pixels: uint8 or float32 [B, d], a flattened image in each row.
    """

    ids: list[str]
    labels: np.ndarray | None
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Shard:
    """What the manifest says of one shard file."""

    file: str
    num_images: int
    num_bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class TransformFile:
    """What the manifest says of the transform that made vectors of images.

    Attributes:
      spec: what `--transform` was given.
      file: its name, beside the manifest.
      image_shape, dtype: of the images.
      num_features: length of the vectors.
    """

    spec: str
    file: str
    num_bytes: int
    crc32c: str
    image_shape: tuple[int, ...]
    dtype: str
    num_features: int

    @classmethod
    def from_fields(cls, fields: dict[str, Any] | None) -> "TransformFile | None":
        """What was read as JSON; None stays None."""
        if fields is None:
            return None
        return cls(**{**fields, "image_shape": tuple(fields["image_shape"])})


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a set of shards holds; its presence says that the set is complete.

    Attributes:
      image_shape: (h, w), (h, w, c) or (d,); num_features is its product.
      dtype: uint8 or float32.
      label_names: a label is an index into it; None in an unlabelled set.
      source: the input and the options it was read with.
      fingerprint: hash of the set of (id, label, pixels), whatever their order and shards, and of
        the transform.
      transform: None where the shards hold the images themselves.
    """

    image_shape: tuple[int, ...]
    num_features: int
    dtype: str
    num_images: int
    label_names: tuple[str, ...] | None
    shards: tuple[Shard, ...]
    num_rejected: int
    source: dict[str, Any]
    fingerprint: str
    format_version: int = FORMAT_VERSION
    transform: TransformFile | None = None

    def to_json(self) -> bytes:
        """The text of manifest.json."""
        fields = dataclasses.asdict(self)
        if self.transform is None:  # earlier versions know no such field
            del fields["transform"]
        return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, path: str) -> "Manifest":
        """Parses manifest.json; `path` is for messages.

        Raises:
          UserError: it is not a manifest, or one of a newer format.
        """
        remedy = "shard the set again"
        try:
            fields = json.loads(text)
            version = fields["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a manifest of shards; {remedy}") from error
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: format_version {version!r}, but this version reads {FORMAT_VERSION}; "
                f"update kmeans-job or {remedy}"
            )
        try:
            names = fields.pop("label_names")
            return cls(
                image_shape=tuple(fields.pop("image_shape")),
                label_names=None if names is None else tuple(names),
                shards=tuple(Shard(**shard) for shard in fields.pop("shards")),
                transform=TransformFile.from_fields(fields.pop("transform", None)),
                **fields,
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: incomplete or damaged ({error}); {remedy}") from error


def shard_file(index: int, num_shards: int) -> str:
    """Name of a shard: images-00000-of-00004.tfrecord."""
    return f"images-{index:05d}-of-{num_shards:05d}{SHARD_ENDING}"


class Fingerprint:
    """Hash of a set of images: the sum of its images' hashes, so that order does not matter."""

    def __init__(self, total: int = 0):
        self._total = total

    def add(self, block: Block) -> None:
        """Adds the images of `block`."""
        labels = block.labels if block.labels is not None else np.full(len(block.ids), -1)
        for image_id, label, row in zip(block.ids, labels.tolist(), block.pixels, strict=True):
            name = image_id.encode()
            digest = hashlib.blake2b(
                struct.pack("<qq", len(name), label) + name, digest_size=_FINGERPRINT_BYTES
            )
            digest.update(row)
            self._total += int.from_bytes(digest.digest(), "little")

    def add_transform(self, file: TransformFile) -> None:
        """Adds the transform that made the images."""
        content = f"{file.num_bytes} {file.crc32c}".encode()
        digest = hashlib.blake2b(content, digest_size=_FINGERPRINT_BYTES, person=b"transform")
        self._total += int.from_bytes(digest.digest(), "little")

    def merge(self, other: "Fingerprint") -> "Fingerprint":
        """The fingerprint of both sets together: associative and commutative."""
        return Fingerprint(self._total + other._total)

    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._total % (1 << 8 * _FINGERPRINT_BYTES):0{2 * _FINGERPRINT_BYTES}x}"


class ShardWriter:
    """Writes blocks to a file, and keeps what the manifest says of it."""

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
        """The manifest's entry for what was written, under the name `file`."""
        return Shard(file, self.num_images, self.num_bytes, f"{self._crc:08x}")


def encode_block(block: Block) -> bytes:
    """A block as a serialized tf.train.Example."""
    example = Example()
    feature = example.features.feature
    feature["images"].bytes_list.value.append(np.ascontiguousarray(block.pixels).tobytes())
    feature["ids"].bytes_list.value.extend(image_id.encode() for image_id in block.ids)
    if block.labels is not None:
        feature["labels"].int64_list.value.extend(block.labels.tolist())
    return example.SerializeToString(deterministic=True)


def decode_block(data: bytes, manifest: Manifest) -> Block:
    """The block in a serialized tf.train.Example; its pixels are read-only."""
    feature = Example.FromString(data).features.feature
    pixels = np.frombuffer(feature["images"].bytes_list.value[0], manifest.dtype)
    labels = None
    if manifest.label_names is not None:
        labels = np.array(feature["labels"].int64_list.value, np.int64)
    ids = [image_id.decode() for image_id in feature["ids"].bytes_list.value]
    return Block(ids, labels, pixels.reshape(len(ids), manifest.num_features))


def load_manifest(folder: str) -> Manifest:
    """Reads SHARDS/manifest.json and checks that exactly its files are there, at their sizes.

    Raises:
      UserError: no or no valid manifest; a file missing, extra, or of another size.
    """
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path):
        raise UserError(f"{path}: not found; make the shards first: kmeans-job shard")
    manifest = Manifest.from_json(storage.read_bytes(path), path)
    expected = {
        file.file: file.num_bytes for file in (*manifest.shards, manifest.transform) if file
    }
    sizes = storage.file_sizes(folder)
    found = {name for name in sizes if _is_part(name)}
    remedy = "shard the set again"
    for name in sorted(expected.keys() - found):
        kind = "shard" if name.endswith(SHARD_ENDING) else "file"
        raise UserError(f"{storage.join(folder, name)}: this {kind} is missing; {remedy}")
    for name in sorted(found - expected.keys()):
        raise UserError(f"{storage.join(folder, name)}: not in the manifest; remove it or {remedy}")
    for name, size in expected.items():
        if sizes[name] != size:
            raise UserError(
                f"{storage.join(folder, name)}: truncated or altered: "
                f"{sizes[name]} bytes instead of {size}; {remedy}"
            )
    return manifest


def _is_part(name: str) -> bool:
    """Whether a file with this name must be in the manifest."""
    return name.endswith(SHARD_ENDING) or name in TRANSFORM_FILES


def read_shard(folder: str, shard: Shard, manifest: Manifest) -> Iterator[Block]:
    """The blocks of one shard, one in memory at a time.

    Raises:
      UserError: the file is not the one the manifest describes; raised at the end at the latest.
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

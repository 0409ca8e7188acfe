"""A small set of shards, written block by block without a pipeline."""

import io
from pathlib import Path

import numpy as np

from pipeline import storage
from pipeline.shards.block import Block, ShardWriter
from pipeline.shards.manifest import MANIFEST, Manifest, shard_file

NAMES = ("cat", "dog", "élan")


def block_of(size: int, first: int = 0, labelled: bool = True, dtype: str = "uint8") -> Block:
    """`size` images of 6 pixels, each of which is different."""
    pixels = (np.arange(size * 6).reshape(size, 6) + first * 6) % 251
    labels = (np.arange(size) + first) % 3 if labelled else None
    return Block([f"train/{first + i:05d}" for i in range(size)], labels, pixels.astype(dtype))


def write_set(folder: Path, sizes=(3, 4), labelled: bool = True) -> Manifest:
    """A set with a shard of two blocks for each of `sizes`."""
    written = []
    for number, size in enumerate(sizes):
        writer = ShardWriter(file := io.BytesIO())
        writer.write(block_of(size, 100 * number, labelled))
        writer.write(block_of(1, 100 * number + 50, labelled))
        name = shard_file(number, len(sizes))
        storage.write_bytes(str(folder / name), file.getvalue())
        written.append(writer.shard(name))
    manifest = Manifest(
        image_shape=(2, 3),
        num_features=6,
        dtype="uint8",
        num_images=sum(shard.num_images for shard in written),
        label_names=NAMES if labelled else None,
        shards=tuple(written),
        num_rejected=0,
        source={"input": "test"},
        fingerprint="0" * 32,
    )
    storage.write_bytes(str(folder / MANIFEST), manifest.to_json())
    return manifest


def change(path: Path, edit) -> None:
    """Edits the bytes of a file, as damage does."""
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)

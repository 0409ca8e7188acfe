"""Sets of shards written from arrays, without Beam."""

from pathlib import Path

import numpy as np

from pipeline import storage
from pipeline.shards import plan
from pipeline.shards.block import Block, Fingerprint, ShardWriter
from pipeline.shards.manifest import MANIFEST, Manifest, SeenWeights, WeightsEntry, shard_file


def write(
    folder: Path,
    pixels: np.ndarray,
    labels: np.ndarray | None = None,
    ids: list[str] | None = None,
    num_shards: int = 1,
    order: np.ndarray | None = None,
    block_rows: int = 100,
    weights: np.ndarray | None = None,
) -> str:
    """Writes images [n, d] or [n, h, w] in the given `order` as a complete set; its folder.

    Args:
      labels: int64 [n].
      weights: float64 [n].
      ids: of the images, by default those of `numbered`.
    """
    names, order = ids or numbered(len(pixels)), np.arange(len(pixels)) if order is None else order
    flat = pixels.reshape(len(pixels), -1)
    fingerprint, shards = Fingerprint(), []
    for number, part in enumerate(np.array_split(order, num_shards)):
        name = shard_file(number, num_shards)
        with storage.publish(str(folder / name)) as file:
            writer = ShardWriter(file)
            for start, stop in plan.spans(0, len(part), block_rows):
                rows = part[start:stop]
                given = None if labels is None else labels[rows]
                own = None if weights is None else weights[rows]
                ids_here = [names[row] for row in rows]
                writer.write(Block(ids_here, given, flat[rows], weights=own))
        shards.append(writer.shard(name))
        fingerprint = fingerprint.merge(writer.fingerprint)
    manifest = Manifest(
        image_shape=pixels.shape[1:],
        num_features=flat.shape[1],
        dtype=pixels.dtype.name,
        num_images=len(pixels),
        label_names=None if labels is None else tuple(map(str, range(labels.max() + 1))),
        shards=tuple(shards),
        num_rejected=0,
        source={"input": "arrays"},
        fingerprint=fingerprint.hex(),
        weights=None if weights is None else WeightsEntry("w", *SeenWeights.of(weights)),
    )
    storage.write_bytes(str(folder / MANIFEST), manifest.to_json())
    return str(folder)


def numbered(count: int) -> list[str]:
    """The ids train/00000, train/00001, …; sorted as they are numbered."""
    return [f"train/{number:05d}" for number in range(count)]


def write_plain(folder, pixels, num_shards=3):
    """A set of images [n, d] in `folder`."""
    folder.mkdir(exist_ok=True)
    fingerprint, shards = Fingerprint(), []
    for number, rows in enumerate(np.array_split(np.arange(len(pixels)), num_shards)):
        name = f"images-{number:05d}-of-{num_shards:05d}.tfrecord"
        with (folder / name).open("wb") as file:
            writer = ShardWriter(file)
            for start, stop in plan.spans(0, len(rows), 40):
                part = rows[start:stop]
                writer.write(Block([f"i{row:05d}" for row in part], None, pixels[part]))
        shards.append(writer.shard(name))
        fingerprint = fingerprint.merge(writer.fingerprint)
    shape = (pixels.shape[1],)
    facts = (shape, *shape, pixels.dtype.name, len(pixels), None, tuple(shards), 0, {})
    manifest = Manifest(*facts, fingerprint.hex())
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest

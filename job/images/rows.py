"""Rows of images as they come from shards: which replica has them, and what is known of each."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from job.distribute.replicas import Replicas, aligned_empty
from pipeline.errors import UserError
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest, Shard

MAX_SQUARED_NORM = 1e36  # pixels²; distances between such images still fit float32


class Loaded(NamedTuple):
    """Images of one block, all of one replica.

    Attributes:
      replica: whose they are.
      rows: where they lie there.
      block: the one they come from.
      part: where they lie in it.
      shard: the one the block comes from.
      number: of the block in its shard.
    """

    replica: int
    rows: slice
    block: Block
    part: slice
    shard: Shard
    number: int

    @property
    def pixels(self) -> np.ndarray:
        """Of these images; [m, d]."""
        return self.block.pixels[self.part]

    @property
    def ids(self) -> list[str]:
        return self.block.ids[self.part]


def squared_pixel_norms(pixels: np.ndarray) -> np.ndarray:
    """‖x‖² of images [n, d], in pixels²; float64 [n], exact for uint8."""
    wide = pixels.astype(np.float64)
    return np.einsum("nd,nd->n", wide, wide)


def empty_norms(count: int) -> np.ndarray:
    """An uninitialised float64 array of `count` norms, which TensorFlow can use without a copy."""
    return aligned_empty((count,), "float64")


def own_shards(manifest: Manifest, replicas: Replicas) -> tuple[Shard, ...]:
    """The shards of this worker: shard i belongs to worker i mod W."""
    return manifest.shards[replicas.worker :: replicas.num_workers]


def share_rows(manifest: Manifest, replicas: Replicas) -> list[tuple[int, int]]:
    """(start, stop) of each replica's images among this worker's n: n·r/R … n·(r + 1)/R."""
    count = sum(shard.num_images for shard in own_shards(manifest, replicas))
    cuts = [count * r // replicas.count for r in range(replicas.count + 1)]
    return list(itertools.pairwise(cuts))


def blocks_by_replica(folder: str, manifest: Manifest, replicas: Replicas) -> Iterator[Loaded]:
    """Reads this worker's images block by block, cut where a replica's share ends.

    Raises:
      UserError: a shard is not the one the manifest describes.
      InterruptedFit: this worker was asked to end.
    """
    shares = share_rows(manifest, replicas)
    first = 0  # of the block's images among this worker's
    for shard in own_shards(manifest, replicas):
        for number, block in enumerate(read_shard(folder, shard, manifest)):
            replicas.end_if_asked("while loading")
            for replica, (start, stop) in enumerate(shares):
                a, b = max(first, start), min(first + len(block.ids), stop)
                if a < b:
                    rows, part = slice(a - start, b - start), slice(a - first, b - first)
                    yield Loaded(replica, rows, block, part, shard, number)
            first += len(block.ids)


def squared_norm_total(folder: str, norms: list[np.ndarray], replicas: Replicas) -> float:
    """Σ‖x‖² over all workers, of which `norms` are this one's, by replica; pixels².

    Raises:
      UserError: the distances of an image of `folder` do not fit float32.
    """
    largest = max((float(part.max()) for part in norms if part.size), default=0.0)
    if largest > MAX_SQUARED_NORM:
        raise UserError(
            f"{folder}: an image of norm {math.sqrt(largest):.3g}, whose distances float32 "
            "cannot hold; divide the images by their largest value"
        )
    total = np.array(float(sum(part.sum() for part in norms)))
    return float(replicas.all_reduce([total])[0])


def least_of_all(replicas: Replicas, value: int) -> int:
    """The smallest `value` of all workers, which must make states of one shape."""
    return int(replicas.all_gather(np.array(value)).min())

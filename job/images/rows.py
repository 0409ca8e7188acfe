"""Images as they come from shards: which rows of which replica they are, and their norms."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from job import hashing
from job.distribute.replicas import Replicas
from job.kmeans.blocks import aligned_empty
from job.kmeans.exact_sum import exact_sum, no_terms, rounded
from job.kmeans.precision import Precision
from pipeline.errors import UserError
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest, Shard

# (folder, shard, manifest) → the blocks of one shard
Read = Callable[[str, Shard, Manifest], Iterator[Block]]
MAX_SQUARED_NORM = 1.7e38**2  # pixels²; distances between such images still fit float32


class Loaded(NamedTuple):
    """Images of one block that belong to one replica.

    Attributes:
      replica: the replica's number in this worker.
      rows: their rows in the replica.
      block: the block they come from.
      part: their rows in the block.
      shard: the shard that the block comes from.
      number: the number of the block in the shard.
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


class Rows:
    """The rows of this worker's replicas, and the images that they are: one each.

    `WeightedRows` has rows that are several images, or none.

    Attributes:
      num_images, weights, digests: as `Images` has them.
      copies: as `Images` has them, but an array for each replica; or None.
      unit: of all weights.
    """

    copies: list[np.ndarray] | None = None
    weights: list[np.ndarray] | None = None
    unit = 1.0

    def __init__(self, manifest: Manifest, counts: list[int]):
        """Makes room for `counts` rows of each replica."""
        self.num_images = manifest.num_images
        self.digests = [np.empty(count, np.uint64) for count in counts]

    def add(self, loaded: Loaded) -> None:
        """Takes what is kept of some rows beside their pixels."""
        self.digests[loaded.replica][loaded.rows] = hashing.digests(loaded.ids)

    def settle(self, replicas: Replicas) -> None:
        """Completes the attributes, once all rows are added; all workers call it together."""

    def by_image(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Converts values of the rows of each replica to those of its images."""
        return values

    def of_images(self, replica: int, images: list[int]) -> list[int]:
        """Returns the rows of a replica's images."""
        return images

    def weighed(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Multiplies values of all images by their weights."""
        return values

    def counting(self, replica: int, rows: slice, pixels: np.ndarray) -> np.ndarray:
        """Returns those of the pixels [m, d] of some rows whose rows have a weight."""
        return pixels

    def silence(self, replica: int, rows: slice, values: np.ndarray) -> None:
        """Sets values [m, …] of rows of weight 0 to 0, since the frame, found without them, may not
        hold them.
        """


def squared_pixel_norms(pixels: np.ndarray) -> np.ndarray:
    """Computes ‖x‖² of images [n, d], in pixels²; float64 [n], exact for uint8."""
    wide = pixels.astype(np.float64)
    if pixels.dtype == np.uint8:
        return np.einsum("nd,nd->n", wide, wide)
    # The order of these additions depends on d alone, that of einsum on the processor, too.
    return np.square(wide, out=wide).sum(axis=1)


def empty_norms(count: int) -> np.ndarray:
    """Makes an uninitialised float64 array [count] that TensorFlow can use without a copy."""
    return aligned_empty((count,), "float64")


def own_shards(manifest: Manifest, replicas: Replicas) -> tuple[Shard, ...]:
    """Returns the shards of this worker: shard i belongs to worker i mod W."""
    return manifest.shards[replicas.worker :: replicas.num_workers]


def share_rows(manifest: Manifest, replicas: Replicas) -> list[tuple[int, int]]:
    """Divides this worker's n images among its R replicas; (start, stop) of each.

    Replica r has images n·r/R … n·(r + 1)/R, rounded down.
    """
    count = sum(shard.num_images for shard in own_shards(manifest, replicas))
    cuts = [count * r // replicas.count for r in range(replicas.count + 1)]
    return list(itertools.pairwise(cuts))


def blocks_by_replica(
    folder: str, manifest: Manifest, replicas: Replicas, read: Read = read_shard
) -> Iterator[Loaded]:
    """Reads this worker's images block by block, divided where a replica's share ends.

    Args:
      read: reads the blocks of a shard.

    Raises:
      UserError: a shard is not the one the manifest describes.
      InterruptedFit: this worker was asked to end.
    """
    shares = share_rows(manifest, replicas)
    first = 0  # of the block's images among this worker's
    for shard in own_shards(manifest, replicas):
        for number, block in enumerate(read(folder, shard, manifest)):
            replicas.end_if_asked("while loading")
            for replica, (start, stop) in enumerate(shares):
                a, b = max(first, start), min(first + len(block.ids), stop)
                if a < b:
                    rows, part = slice(a - start, b - start), slice(a - first, b - first)
                    yield Loaded(replica, rows, block, part, shard, number)
            first += len(block.ids)


def total(replicas: Replicas, values: list[np.ndarray]) -> float:
    """Adds a number of each image of all workers: see `Images.total`."""
    mine = sum(map(exact_sum, values), no_terms())
    return rounded(replicas.all_reduce([mine])[0])


def check_norms(folder: str, norms: list[np.ndarray]) -> None:
    """Raises UserError if float32 cannot hold the distances of an image of the shards in `folder`.

    Args:
      norms: ‖x‖² of this worker's images, published units², by replica.
    """
    largest = max((float(part.max()) for part in norms if part.size), default=0.0)
    if largest > MAX_SQUARED_NORM:
        raise UserError(
            f"{folder}: an image of norm {math.sqrt(largest):.3g}, whose distances float32 "
            "cannot hold; divide the images by their largest value"
        )


def least_of_all(replicas: Replicas, value: int) -> int:
    """Returns the smallest `value` of all workers, which must agree on the shape of states."""
    return int(replicas.all_gather(np.array(value)).min())


def common_precision(replicas: Replicas) -> Precision:
    """Returns the precision of the replicas, with pieces that the CPUs of all workers multiply."""
    own = replicas.precision
    every = replicas.all_gather(np.array([own.largest_piece, own.piece_speed]))
    largest, speed = every.min(axis=0).tolist()
    return own._replace(largest_piece=largest, piece_speed=speed)

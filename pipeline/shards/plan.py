"""The plan of which images become which shard: pure integers, before anything is read."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.errors import UserError

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 1 << 20
CHUNK_NAMES = 4096  # names of images that a worker holds while it lists
NUL = b"\0"  # the one byte that no path holds


class Piece(NamedTuple):
    """The images of shard `number`: start … stop − 1 of a source whose images are numbered."""

    number: int
    start: int
    stop: int


class Listing(NamedTuple):
    """The images of shard `number` of a source that workers list.

    Attributes:
      chunks: (label, names joined by NUL), in any order; joined, because a list of names would
        take several times the memory.
    """

    number: int
    chunks: list[tuple[int, bytes]]

    def references(self) -> Iterator[tuple[bytes, int]]:
        """Yields (name, label) of each image, sorted by label, then name.

        Sorted, because chunks arrive in another order in every run.
        """
        for label in sorted({label for label, _ in self.chunks}):
            names = NUL.join(joined for of, joined in self.chunks if of == label)
            for name in sorted(names.split(NUL)):
                yield name, label


def default_num_shards(num_images: int, image_bytes: int) -> int:
    """Returns how many shards of about 64 MiB a set makes, at least one."""
    return max(1, round(num_images * image_bytes / SHARD_BYTES))


def pieces(num_images: int, num_shards: int) -> list[Piece]:
    """Cuts `num_images` into `num_shards` pieces whose sizes differ by one at most."""
    check_num_shards(num_images, num_shards)
    cuts = [num_images * index // num_shards for index in range(num_shards + 1)]
    return [Piece(i, *cut) for i, cut in enumerate(itertools.pairwise(cuts))]


def check_num_shards(num_images: int, num_shards: int) -> None:
    """Raises UserError unless 1 ≤ `num_shards` ≤ `num_images`."""
    if num_shards < 1:
        raise UserError(f"--num-shards {num_shards}: at least one shard is needed")
    if num_shards > num_images:
        raise UserError(f"--num-shards {num_shards}: more than the {num_images} images of the set")


def hashed_shard(name: bytes, num_shards: int) -> int:
    """Returns the shard of an image that is known by name: the same on every machine."""
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, "little") % num_shards


def grouped(
    references: Iterable[tuple[bytes, int]], num_shards: int
) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Groups (name, label) of images to (shard, chunk of a Listing), CHUNK_NAMES at a time."""
    remaining = iter(references)
    while True:
        joined: dict[tuple[int, int], list[bytes]] = {}
        for name, label in itertools.islice(remaining, CHUNK_NAMES):
            joined.setdefault((hashed_shard(name, num_shards), label), []).append(name)
        if not joined:
            return
        for (shard, label), names in joined.items():
            yield shard, (label, NUL.join(names))


def overlaps(piece: Piece, sizes: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Yields (i, start, stop): the images of part i that belong to `piece`.

    Args:
      sizes: numbers of images of the parts, which are numbered one part after the other.
    """
    first = 0
    for index, size in enumerate(sizes):
        start, stop = max(piece.start - first, 0), min(piece.stop - first, size)
        if start < stop:
            yield index, start, stop
        first += size


def images_per_block(image_bytes: int) -> int:
    """Returns how many images make a block of about 1 MiB, at least one."""
    return max(1, BLOCK_BYTES // image_bytes)


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cuts start … stop − 1 into consecutive (start, stop) of up to `size` each."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)

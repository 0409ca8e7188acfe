"""Which images become which shard: pure integers, decided before anything is read."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.errors import UserError

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 1 << 20
CHUNK_NAMES = 4096
NUL = b"\0"  # which no path holds


class Piece(NamedTuple):
    """What becomes shard `number`: the images start … stop − 1 of a source."""

    number: int
    start: int
    stop: int


class Listing(NamedTuple):
    """What becomes shard `number` of a source that workers list.

    Attributes:
      chunks: (label, names joined by NUL), in any order; together they are far smaller than a
        list of names would be.
    """

    number: int
    chunks: list[tuple[int, bytes]]

    def references(self) -> Iterator[tuple[bytes, int]]:
        """(name, label) of each image, sorted by label, then name."""
        for label in sorted({label for label, _ in self.chunks}):
            names = NUL.join(joined for of, joined in self.chunks if of == label)
            for name in sorted(names.split(NUL)):
                yield name, label


def default_num_shards(num_images: int, image_bytes: int) -> int:
    """Shards of about 64 MiB, at least one."""
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
    """The shard of an image that is known by name: the same on every engine and machine."""
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, "little") % num_shards


def grouped(
    references: Iterable[tuple[bytes, int]], num_shards: int
) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """(shard, chunk of a Listing) for (name, label) of images, few thousands of them in memory."""
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
    """(i, start, stop): which images of part i belong to `piece`, if parts follow each other."""
    first = 0
    for index, size in enumerate(sizes):
        start, stop = max(piece.start - first, 0), min(piece.stop - first, size)
        if start < stop:
            yield index, start, stop
        first += size


def block_rows(image_bytes: int) -> int:
    """Images in a block of about 1 MiB."""
    return max(1, BLOCK_BYTES // image_bytes)


def spans(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cuts start … stop − 1 into consecutive (start, stop) of up to `rows` each."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)

"""Which images become which shard: pure integers, decided before anything is read."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import UserError

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 1 << 20


class Piece(NamedTuple):
    """What becomes shard `number`: the images start … stop − 1 of a source."""

    number: int
    start: int
    stop: int


def default_num_shards(num_images: int, image_bytes: int) -> int:
    """Shards of about 64 MiB, at least one."""
    return max(1, round(num_images * image_bytes / SHARD_BYTES))


def pieces(num_images: int, num_shards: int) -> list[Piece]:
    """Cuts `num_images` into `num_shards` pieces whose sizes differ by one at most."""
    if num_shards < 1:
        raise UserError(f"--num-shards {num_shards}: at least one shard is needed")
    if num_shards > num_images:
        raise UserError(f"--num-shards {num_shards}: more than the {num_images} images of the set")
    cuts = [num_images * index // num_shards for index in range(num_shards + 1)]
    return [Piece(i, *cut) for i, cut in enumerate(itertools.pairwise(cuts))]


def block_rows(image_bytes: int) -> int:
    """Images in a block of about 1 MiB."""
    return max(1, BLOCK_BYTES // image_bytes)


def spans(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cuts start … stop − 1 into consecutive (start, stop) of up to `rows` each."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)

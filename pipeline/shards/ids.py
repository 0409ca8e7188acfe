"""Ids of numbered images; ids that repeat in a set, found without all ids in one place.

Beside each shard lies a small file with the sorted 64-bit hashes of its ids. They are merged range
by range, so that memory does not grow with the set.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline import storage

RANGE_HASHES = 1 << 22  # about as many are in memory at a time: 32 MiB
_TYPE = np.dtype("<u8")


def numbered_ids(prefix: str, start: int, stop: int) -> list[str]:
    """Returns the ids of images start … stop − 1 of a part of a set: train/00042."""
    return [f"{prefix}/{index:05d}" for index in range(start, stop)]


def part_file(number: int, num_shards: int) -> str:
    """Returns the name of the file with the hashes of one shard's ids."""
    return f"ids-{number:05d}-of-{num_shards:05d}.hashes"


def hashed(ids: Iterable[str]) -> np.ndarray:
    """Returns a hash of each id, uint64 [n].

    Ids whose hashes are equal by chance, of which 10⁹ ids hold less than one pair, count as equal.
    """
    digests = (hashlib.blake2b(each.encode(), digest_size=_TYPE.itemsize).digest() for each in ids)
    return np.frombuffer(b"".join(digests), _TYPE)


def write_part(path: str, hashes: Sequence[np.ndarray]) -> None:
    """Publishes the hashes of one shard's ids, given block by block."""
    joined = np.concatenate([np.empty(0, _TYPE), *hashes])
    storage.write_bytes(path, np.sort(joined).tobytes())


def repeated(paths: Sequence[str], num_ids: int) -> np.ndarray:
    """Returns the hashes that occur more than once in the files `paths`, sorted.

    Args:
      num_ids: the number of hashes in all files.
    """
    num_ranges = max(1, -(-num_ids // RANGE_HASHES))
    # Hashes are spread evenly, so ranges of equal width hold about equally many.
    ends = [(index << 64) // num_ranges for index in range(1, num_ranges)] + [1 << 64]
    parts = [_ranges(path, ends) for path in paths]
    found = [np.empty(0, _TYPE)]
    for slices in zip(*parts, strict=True):
        together = np.sort(np.concatenate(slices))
        found.append(np.unique(together[1:][together[1:] == together[:-1]]))
    return np.concatenate(found)


def count_in(path: str, hashes: np.ndarray) -> int:
    """Returns how many ids of one shard have one of `hashes`, which are sorted."""
    own = np.frombuffer(storage.read_bytes(path), _TYPE)
    return int(np.isin(own, hashes).sum())


def _ranges(path: str, ends: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields the hashes of a file below each of `ends` and not below the one before."""
    offset = 0
    for end in ends:
        # Opened for each range: a process may not hold the files of all shards open.
        with storage.open_read(path) as file:
            file.seek(offset * _TYPE.itemsize)
            found = np.empty(0, _TYPE)
            while not len(found) or int(found[-1]) < end:
                data = file.read(_TYPE.itemsize << 16)
                if not data:
                    break
                found = np.concatenate([found, np.frombuffer(data, _TYPE)])
        below = found if end == 1 << 64 else found[: np.searchsorted(found, np.uint64(end))]
        offset += len(below)
        yield below

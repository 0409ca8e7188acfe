"""Single images of all workers: finding those with the smallest keys, and reading some by place."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from job.distribute.replicas import Replicas


class Place(NamedTuple):
    """Where an image lies: its worker, the replica of that worker, the row of that replica."""

    worker: int
    replica: int
    row: int


def smallest(replicas: Replicas, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
    """Finds the images with the smallest keys: see `Images.smallest`."""
    mine = _smallest_here(replicas.worker, keys, count)
    if replicas.num_workers == 1:
        return mine
    # All workers must send int64 arrays of one shape: a column for each of `count` candidates, with
    # the bits of its keys, whatever their type, and its place; −1 where a worker has fewer.
    dtypes = [key[0].dtype for key in keys]
    bits = np.full((len(keys) + 3, count), -1, np.int64)
    for column, (*values, place) in enumerate(mine):
        words = [np.array(v, t) for v, t in zip(values, dtypes, strict=True)]
        bits[:-3, column] = [_wide(word).view(np.int64) for word in words]
        bits[-3:, column] = place
    found = []
    for worker in replicas.all_gather(bits):
        columns = [_narrow(w, t) for w, t in zip(worker[:-3], dtypes, strict=True)]
        places = [Place(*map(int, place)) for place in worker[-3:].T]
        rows = zip(*columns, places, strict=True)
        found += [row for row in rows if row[-1].worker >= 0]
    return sorted(found)[:count]


def _smallest_here(worker: int, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
    """Finds the images of this worker with the smallest keys."""
    candidates: list[tuple] = []
    for replica, first in enumerate(keys[0]):
        rows = np.arange(len(first))
        if len(first) > count:
            # All that may be among the smallest; further keys decide between equal ones below.
            rows = np.flatnonzero(first <= np.partition(first, count - 1)[count - 1])
        columns = [key[replica][rows] for key in keys]
        order = np.lexsort(columns[::-1])[:count]
        places = [Place(worker, replica, row) for row in rows[order].tolist()]
        candidates += zip(*(column[order] for column in columns), places, strict=True)
    return sorted(candidates)[:count]


def take(
    replicas: Replicas,
    places: Sequence[Place],
    read: Callable[[int, list[int]], np.ndarray],
    num_features: int,
) -> np.ndarray:
    """Reads the images at `places`, of any worker; float64 [m, d].

    Args:
      read: (replica, rows) → pixels [len(rows), d] of this worker's images.
      num_features: d.
    """
    # Each worker fills in its own images and leaves the others 0: the sum has all of them.
    pixels = np.zeros((len(places), num_features))
    for replica in range(replicas.count):
        mine = [
            number
            for number, place in enumerate(places)
            if (place.worker, place.replica) == (replicas.worker, replica)
        ]
        if mine:
            pixels[mine] = read(replica, [places[number].row for number in mine])
    return replicas.all_reduce([pixels])[0]


def _wide(number: np.ndarray) -> np.ndarray:
    """Widens a number to 8 bytes: to float64, uint64 or int64."""
    if number.dtype.kind == "f":
        return number.astype(np.float64)
    return number.astype(np.uint64 if number.dtype.kind == "u" else np.int64)


def _narrow(words: np.ndarray, dtype: np.dtype) -> list:
    """Reads int64 words as what `_wide` made of numbers of `dtype`; Python numbers."""
    return words.view(_wide(np.empty(0, dtype)).dtype).tolist()

"""The smallest of all workers, and single images of any of them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from job.distribute.replicas import Replicas
from job.images import places
from job.images.places import Place


class Worker(Replicas):
    """One of several workers in one process, with some replicas; the others' part is given.

    Attributes:
      sent: what this worker gave to the sums of all.
      others: what the other workers give.
    """

    def __init__(self, number: int, num_workers: int, count: int = 1):
        super().__init__(tf.distribute.get_strategy())
        self.worker, self.num_workers, self.count = number, num_workers, count
        self.sent: list[np.ndarray] = []
        self.others: list[list[np.ndarray]] = []

    def all_reduce(self, arrays):
        self.sent = list(arrays)
        return [sum(parts) for parts in zip(arrays, *self.others, strict=True)]


def of_all(keys_of_workers: list, count: int) -> list[list[tuple]]:
    """What `smallest` returns in each worker, which have heard what the others send."""
    workers = [Worker(w, len(keys_of_workers)) for w in range(len(keys_of_workers))]
    for worker, keys in zip(workers, keys_of_workers, strict=True):
        places.smallest(worker, keys, count)
    found = []
    for worker, keys in zip(workers, keys_of_workers, strict=True):
        worker.others = [other.sent for other in workers if other is not worker]
        found.append(places.smallest(worker, keys, count))
    return found


@settings(deadline=None)
@given(
    parts=st.lists(st.lists(st.integers(0, 3)), min_size=1),
    count=st.integers(1, 9),
    random=st.randoms(),
)
def test_smallest_against_a_sort(parts, count, random):
    """Many equal first keys, decided by a second that has none; a list for each replica."""
    keys, ranked = keyed(parts, random)
    assert places.smallest(Worker(0, 1, len(parts)), keys, count) == ranked[:count]


def keyed(parts: list[list[int]], random, worker: int = 0) -> tuple[list, list[tuple]]:
    """Two keys of the images of each replica, and these images in the order of the keys."""
    total = sum(map(len, parts))
    numbers = iter(random.sample(range(total), total))
    ties = [[next(numbers) for _ in part] for part in parts]
    keys = [[np.array(part, float) for part in parts], [np.array(part, int) for part in ties]]
    ranked = sorted(
        (first, second, Place(worker, replica, row))
        for replica, (part, tie) in enumerate(zip(parts, ties, strict=True))
        for row, (first, second) in enumerate(zip(part, tie, strict=True))
    )
    return keys, ranked


@settings(deadline=None)
@given(
    workers=st.lists(st.lists(st.lists(st.integers(0, 3)), min_size=1), min_size=2, max_size=4),
    count=st.integers(1, 9),
    random=st.randoms(),
)
def test_all_workers_find_the_smallest_of_all(workers, count, random):
    """Whatever their numbers of replicas and images; equal keys go by place."""
    drawn = [keyed(parts, random, number) for number, parts in enumerate(workers)]
    ranked = sorted(row for _, rows in drawn for row in rows)
    found = of_all([keys for keys, _ in drawn], count)
    assert found == [ranked[:count]] * len(workers)


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**64 - 1, 0, 2**63, 5], np.uint64),
        np.array([-1.5, np.inf, 0.1 + 0.2, -np.inf]),
        np.array([0.1, -7, 1e-40, np.inf], np.float32),
        np.array([-(2**63), 2**63 - 1, 0, -1], np.int64),
        np.array([-5, 4, 0, 2], np.int32),
    ],
    ids=lambda values: values.dtype.name,
)
def test_keys_of_other_workers_come_to_the_bit(values):
    keys_of_workers = [[[values[:2]]], [[values[2:]]]]
    for found in of_all(keys_of_workers, 4):
        keys = np.array([key for key, _ in found], values.dtype)
        assert keys.tobytes() == np.sort(values).tobytes()
        for key, place in found:
            assert values[2 * place.worker + place.row] == key


def test_each_worker_reads_its_own_images():
    pixels = {  # worker, replica → images
        (0, 0): np.array([[1, 2], [3, 4]]),
        (0, 1): np.array([[5, 6]]),
        (1, 0): np.array([[7, 8], [9, 10]]),
    }
    wanted = [Place(1, 0, 1), Place(0, 1, 0), Place(0, 0, 1), Place(1, 0, 1)]
    read: list[tuple[int, int, list[int]]] = []

    def take(worker: Worker) -> np.ndarray:
        def reader(replica: int, rows: list[int]) -> np.ndarray:
            read.append((worker.worker, replica, rows))
            return pixels[worker.worker, replica][rows]

        return places.take(worker, wanted, reader, 2)

    first, second = Worker(0, 2, 2), Worker(1, 2)
    take(first)
    second.others = [first.sent]
    np.testing.assert_array_equal(take(second), [[9, 10], [5, 6], [3, 4], [9, 10]])
    assert read == [(0, 0, [1]), (0, 1, [0]), (1, 0, [1, 1])]


def test_no_place_is_no_image():
    found = places.take(Worker(0, 1), [], lambda *_: np.zeros((9, 9)), 3)
    assert found.shape == (0, 3)

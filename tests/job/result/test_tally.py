"""What assignments add up to: against numpy, in any order and grouping, saved and loaded."""

import numpy as np
import pytest

from job.kmeans.exact_sum import rounded
from job.result.assigner import Measured
from job.result.tally import Tally
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block

K, D, LABELS = 3, 6, 2


def measured(part: int, labelled: bool = True, count: int = 50, dtype=np.uint8) -> Measured:
    """`count` images in clusters drawn at random."""
    rng = np.random.default_rng(part)
    pixels = rng.integers(0, 256, (count, D)).astype(dtype)
    labels = rng.integers(0, LABELS, count) if labelled else None
    block = Block([f"{part}/{i}" for i in range(count)], labels, pixels)
    clusters, squared = rng.integers(0, K, count).astype(np.int32), rng.integers(0, 9, count) ** 2.0
    norms = np.square(pixels.astype(np.float64)).sum(axis=1)
    return Measured(Assigned(block, clusters, squared), squared / 8, norms)


def tally_of(part: int) -> Tally:
    return Tally.zero(K, D, LABELS).add(measured(part))


def check_same(one: Tally, other: Tally) -> None:
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_tallies_merge_in_any_order_and_grouping():
    a, b, c = map(tally_of, range(3))
    check_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    check_same(a.merge(b), b.merge(a))
    check_same(a.merge(Tally.zero(K, D, LABELS)), a)


def test_a_tally_is_what_its_arrays_say():
    tally = tally_of(0)
    arrays = tally.arrays()
    assert all(isinstance(array, (np.ndarray, np.generic)) for array in arrays.values())
    check_same(Tally.from_arrays({**arrays, "nearest/ids": np.zeros(3)}), tally)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_sums_of_a_block(dtype):
    images = measured(0, dtype=dtype)
    (block, clusters, squared), silhouettes, norms = images
    num_features = D if dtype == np.uint8 else 0
    tally = Tally.zero(K, num_features, LABELS).add(images)
    for cluster in range(K):
        own = clusters == cluster
        sums = block.pixels[own].sum(axis=0, dtype=float)[:num_features]
        np.testing.assert_array_equal(tally.sums[cluster], sums)
        assert tally.counts[cluster] == own.sum()
        assert tally.distances[cluster] == np.sqrt(squared[own]).sum()
        for label in range(LABELS):
            assert tally.contingency[cluster, label] == (own & (block.labels == label)).sum()
    assert rounded(tally.squared_norms) == norms.sum() * (dtype == np.uint8)
    np.testing.assert_array_equal(tally.weights, tally.counts)
    assert rounded(tally.squared_distances) == squared.sum()
    assert tally.silhouettes == silhouettes.sum()


def test_clusters_and_blocks_without_images_add_nothing():
    zero = Tally.zero(K, D, LABELS).add(measured(0, count=0))
    check_same(zero, Tally.zero(K, D, LABELS))
    one = Measured(
        Assigned(
            Block(["a"], np.array([1]), np.full((1, D), 7, np.uint8)), np.array([2]), np.ones(1)
        ),
        np.ones(1),
        np.full(1, 49.0 * D),
    )
    assert zero.add(one).sums.tolist() == [[0] * D, [0] * D, [7] * D]


def test_sums_of_many_images_are_exact():
    count = 70_000  # more than float32 holds the sum of
    pixels = np.full((count, 1), 255, np.uint8)
    block = Block([""] * count, None, pixels)
    clusters = np.arange(count) // (count - 1)
    images = Measured(Assigned(block, clusters, np.zeros(count)), np.zeros(count), np.ones(count))
    assert Tally.zero(2, 1, 0).add(images).sums.tolist() == [[255.0 * (count - 1)], [255.0]]


def test_images_without_a_label_in_a_labelled_set_count_for_no_label():
    images = measured(0)
    some = images.assigned.block.labels % 2 == 0
    images.assigned.block.labels[~some] = -1
    tally = Tally.zero(K, D, LABELS).add(images)
    assert tally.contingency.sum() == some.sum()
    assert tally.counts.sum() == 50


def test_unlabelled_images_have_no_contingency():
    tally = Tally.zero(K, D, 0).add(measured(0, labelled=False))
    assert tally.contingency.shape == (K, 0)
    assert tally.counts.sum() == 50

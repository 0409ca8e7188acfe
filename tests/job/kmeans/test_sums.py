"""Sums over clusters: exact, in any order, and the inertia that follows from them."""

import math

import numpy as np
import pytest
import tensorflow as tf
from drawn_sets import sets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kmeans_graphs import moved

from job.images.frame import Extent, Frame, with_quanta
from job.images.rows import squared_pixel_norms
from job.kmeans.sums import (
    MAX_EXACT_IMAGES,
    ClusterSums,
    inertia,
    inertia_of_means,
    means,
    parts_of,
    pixel_sums,
)
from pipeline.shards.pixel_scale import on_grid, units_of


@settings(max_examples=100, deadline=None)
@given(sets(), st.data())
def test_moved_sums_against_the_oracle(drawn, data):
    images, centroids = drawn
    k = len(centroids)
    before, after = (
        data.draw(arrays.arrays(np.int64, len(images), elements=st.integers(lowest, k - 1)))
        for lowest in (-1, 0)  # before the first assignment there is no cluster
    )
    total, counts, num_moved = moved(images, before, after, k)
    assert num_moved == (before != after).sum()
    for c in range(k):
        gained, lost = images[after == c], images[before == c]
        expected = gained.sum(axis=0, dtype=int) - lost.sum(axis=0, dtype=int)
        np.testing.assert_array_equal(total[c], expected)
        assert counts[c] == len(gained) - len(lost)


@st.composite
def cluster_sums(draw) -> ClusterSums:
    """Sums and counts of images, as large as those of 2³² images may be."""
    sums = arrays.arrays(np.int64, (2, 3), elements=st.integers(0, 255 * 2**32))
    counts = arrays.arrays(np.int64, (2,), elements=st.integers(0, 2**32))
    return ClusterSums(draw(sums).astype(np.float64), draw(counts))


def equal(one: ClusterSums, other: ClusterSums) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@given(cluster_sums(), cluster_sums(), cluster_sums())
def test_merge_is_associative_and_commutative(a, b, c):
    assert equal(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert equal(a.merge(b), b.merge(a))
    assert equal(a.merge(ClusterSums.zero(2, 3)), a)


def test_sums_of_many_bright_images_are_exact():
    n = 3 * MAX_EXACT_IMAGES
    images = np.full((n, 2), 255, np.uint8)
    before, after = np.full(n, -1), np.zeros(n, np.int64)
    total, counts, num_moved = moved(images, before, after, 2)
    assert (total.tolist(), counts.tolist()) == ([[255 * n] * 2, [0, 0]], [n, 0])
    assert num_moved == n


def test_sums_of_float_images_are_exact_in_any_order():
    rng = np.random.default_rng(7)
    images = (rng.normal(size=(5000, 3)) * 10.0 ** rng.integers(-6, 0, (5000, 3))).astype("f4")
    images /= 64  # within 1, as in a frame
    extent = Extent.none(3).add(images)
    units = with_quanta(units_of(images.dtype, 3), Frame.none(3), extent, 5000)
    before, after = np.full(5000, -1), rng.integers(0, 2, 5000)
    sums, counts, _ = moved(images, before, after, 2, units)
    assert sums.shape == (2, 3 * len(units.quanta))
    assert len(units.quanta) > 1
    for part, quantum in zip(np.split(sums, len(units.quanta), axis=1), units.quanta, strict=True):
        np.testing.assert_array_equal(part / quantum, np.rint(part / quantum))
    total = pixel_sums(ClusterSums(sums, counts.astype(np.int64)), units)
    expected = [[math.fsum(column) for column in images[after == c].T] for c in range(2)]
    np.testing.assert_allclose(total, expected, rtol=1e-15)
    order = rng.permutation(5000)
    again = [
        moved(images[rows], before[rows], after[rows], 2, units)[0]
        for rows in (order[:99], order[99:])
    ]
    np.testing.assert_array_equal(again[0] + again[1], sums)


@pytest.mark.parametrize("exponent", [-70, -20, 0, 40])
def test_parts_are_the_same_in_float32(exponent):
    rng = np.random.default_rng(3)
    images = (rng.normal(size=(4000, 3)) * 2.0 ** rng.integers(-30, 0, (4000, 3))).astype("f4")
    images = np.ldexp(images, exponent)
    extent = Extent.none(3).add(images)
    units = with_quanta(units_of(images.dtype, 3), Frame.none(3), extent, 10**9)
    assert len(units.quanta) > 2
    narrow, wide = (
        [part.numpy().astype(np.float64) for part in parts_of(tf.constant(images, dtype), units)]
        for dtype in ("float32", "float64")
    )
    np.testing.assert_array_equal(narrow, wide)
    np.testing.assert_array_equal(sum(narrow), images)


def test_an_inertia_that_would_cancel_is_not_told():
    units = units_of(np.dtype("float32"), 1)
    total = ClusterSums(np.array([[2e4]]), np.array([2]))
    assert inertia_of_means(1e4**2 + (1e4 + 1) ** 2 - 2e4 - 1, total, units) is None
    assert inertia_of_means(3e8, total, units) == pytest.approx(1e8)


@pytest.mark.parametrize("offset", [0, 200])
def test_inertia(offset):
    rng = np.random.default_rng(9)
    images = (offset + rng.integers(0, 56, (3000, 40))).astype(np.uint8)
    units = units_of(images.dtype, 40)
    clusters = rng.integers(0, 5, 3000)
    rows = [images[clusters == c].astype(np.float64) for c in range(5)]
    total = ClusterSums(np.array([part.sum(axis=0) for part in rows]), np.bincount(clusters))
    norms = float(squared_pixel_norms(images).sum())
    own_means = [part.mean(axis=0) for part in rows]
    expected = sum(np.square(p - m).sum() for p, m in zip(rows, own_means, strict=True)) / 255**2
    assert inertia_of_means(norms, total, units) == pytest.approx(expected, rel=1e-11)
    centroids = means(total, units)
    np.testing.assert_allclose(centroids, np.array(own_means) / 255, atol=units.step)
    assert inertia(norms, total, centroids, units) == pytest.approx(expected, rel=1e-11)
    other = on_grid(rng.random((5, 40)), units)
    expected = sum(np.square(p / 255 - c).sum() for p, c in zip(rows, other, strict=True))
    assert inertia(norms, total, other, units) == pytest.approx(expected, rel=1e-11)

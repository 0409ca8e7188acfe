"""Units, the grid of centroids, and what is exact on it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards import pixel_scale
from pipeline.shards.pixel_scale import (
    ZERO_DISTANCE,
    Units,
    by_parts,
    on_grid,
    squared_norms,
    to_squared_distances,
    units_of,
)

BYTES = np.dtype("uint8")


@pytest.mark.parametrize("num_features", [1, 64, 784, 150_528])
def test_products_on_the_grid_fit_float64(num_features):
    units = units_of(BYTES, num_features)
    assert units.scale == 255
    largest = 255 * num_features / units.step  # of white pixels and a white centroid
    assert 2.0**52 <= largest <= 2.0**53


def test_floats_have_no_grid():
    assert units_of(np.dtype("float32"), 784) == Units(1.0, 0.0)
    centroids = np.array([[0.1, 0.2]])
    np.testing.assert_array_equal(on_grid(centroids, Units(1.0, 0.0)), centroids)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 784]))
def test_the_grid_is_near_and_its_norms_are_those_of_fractions(seed, num_features):
    units = units_of(BYTES, num_features)
    drawn = np.random.default_rng(seed).random((2, num_features))
    centroids = on_grid(drawn, units)
    assert np.abs(centroids - drawn).max() <= units.step / 2
    exact = [sum(Fraction(value) ** 2 for value in row) for row in centroids.tolist()]
    np.testing.assert_allclose(squared_norms(centroids, units), [*map(float, exact)], rtol=2**-51)
    order = np.random.default_rng(seed).permutation(num_features)
    shuffled = squared_norms(centroids[:, order], units)
    np.testing.assert_array_equal(shuffled, squared_norms(centroids, units))


@pytest.mark.parametrize("num_rows", [1, 4, 5, 9])
def test_parts_of_matrices_make_the_whole(monkeypatch, num_rows):
    monkeypatch.setattr(pixel_scale, "PART_BYTES", 4 * 8 * 3)
    one, other = np.random.default_rng(0).random((2, num_rows, 3))
    sizes = []

    def total(a, b):
        sizes.append(len(a))
        return (a - b).sum(axis=1)

    np.testing.assert_array_equal(by_parts(total, one, other), (one - other).sum(axis=1))
    assert sizes == [4] * (num_rows // 4) + [num_rows % 4] * (num_rows % 4 > 0)
    out = np.empty((num_rows, 3))
    assert by_parts(np.add, one, other, out=out) is out
    np.testing.assert_array_equal(out, one + other)


def test_distances_by_hand():
    """Two pixels of (255, 0) and a centroid at (0, 1): two published units apart, squared."""
    units = units_of(BYTES, 2)
    scores = np.array([units.scale * 1.0 - 2 * 0.0])
    assert to_squared_distances(scores, np.array([255.0**2]), units).tolist() == [2.0]


@pytest.mark.parametrize(("share", "is_zero"), [(0.5, True), (2.0, False), (-1.0, True)])
def test_rounding_is_no_distance(share, is_zero):
    units, norm = Units(1.0, 0.0), np.array([4.0])
    scores = -norm + share * ZERO_DISTANCE * norm
    assert (to_squared_distances(scores, norm, units).tolist() == [0.0]) == is_zero

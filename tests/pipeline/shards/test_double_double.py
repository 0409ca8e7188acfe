"""Arithmetic with pairs of float64, against fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.double_double import NUMPY, row_sums, square, squared_distance, two_sum

numbers = st.floats(1e-100, 1e100).flatmap(lambda value: st.sampled_from([value, -value]))


def exact(pair) -> Fraction:
    return sum(Fraction(float(part)) for part in pair)


@given(numbers, numbers)
def test_a_sum_of_two_is_exact(a, b):
    assert exact(two_sum(a, b)) == Fraction(a) + Fraction(b)


@given(numbers, st.floats(-1, 1))
def test_squares(high, share):
    number = two_sum(high, share * 2.0**-54 * high)
    expected = exact(number) ** 2
    assert abs(exact(square(number)) - expected) <= expected / 2**100


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 100, 784])
def test_squared_distances(d):
    rng = np.random.default_rng(d)
    a = rng.normal(size=(5, d)).astype(np.float32).astype(np.float64)
    b = a + rng.normal(size=(5, d)) * 10.0 ** rng.integers(-12, 3, (5, d))
    b[0] = a[0]
    for row, *pair in zip(range(5), *squared_distance(a, b, NUMPY), strict=True):
        expected = sum(
            (Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a[row], b[row], strict=True)
        )
        assert abs(exact(part[0] for part in pair) - expected) <= expected / 2**99


def test_equal_distances_are_equal_whatever_their_order():
    rng = np.random.default_rng(0)
    image, centroid = np.zeros((20, 50)), rng.random((1, 50)) * 10.0 ** rng.integers(-8, 8, (1, 50))
    shuffled = np.stack([rng.permutation(centroid[0]) for _ in range(20)])
    high, low = squared_distance(image, shuffled, NUMPY)
    assert np.ptp(low + (high - high[0])) <= 2.0**-98 * high[0]


@pytest.mark.parametrize("d", [1, 5, 64, 200])
def test_sums_of_rows_do_not_depend_on_other_rows(d):
    values = np.random.default_rng(d).random((300, d))
    found = row_sums(values, NUMPY)
    np.testing.assert_allclose(found, values.sum(axis=1), rtol=1e-14)
    parts = np.concatenate([row_sums(part, NUMPY) for part in np.array_split(values, 7)])
    np.testing.assert_array_equal(parts, found)

"""Sums without rounding: against math.fsum, in any order."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from job.kmeans.exact_sum import exact_sum, no_terms, rounded

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(st.lists(finite, max_size=30), st.integers(0, 30))
def test_sums_are_rounded_once(values, cut):
    parts = [np.array(part) for part in (values[:cut], values[cut:])]
    assert rounded(exact_sum(parts[0]) + exact_sum(parts[1])) == math.fsum(values)


def test_large_and_small_numbers_in_any_order():
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000) * 10.0 ** rng.integers(-300, 300, 5000)
    values[:3] = 5e-324, np.finfo(np.float64).max / 4, -np.finfo(np.float64).max / 4
    for order in (np.arange(5000), rng.permutation(5000)):
        assert rounded(exact_sum(values[order])) == math.fsum(values)


def test_the_sum_of_nothing():
    assert rounded(no_terms()) == 0
    assert not exact_sum(np.array([])).any()

"""Fits have the same bits whether scores are made of float32 products, halves or integers."""

import itertools

import pytest
from integer_products import ALL, INTEGERS, QUICK, SMALL_INTEGERS, fit_bits, real_fit_bits

from job.kmeans import ALGORITHMS
from job.kmeans.precision import FLOAT32, TF32


def named(case: tuple) -> str:
    make, *numbers = case
    return "-".join([make.__name__, *map(str, numbers)])


@pytest.mark.parametrize("case", QUICK, ids=named)
def test_integers_change_no_bit(emulated_integers, case):
    expected = fit_bits(case, "lloyd", FLOAT32)
    for algorithm in ALGORITHMS:
        assert fit_bits(case, algorithm, INTEGERS) == expected
    assert emulated_integers.called


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in ALL if case not in QUICK], ids=named)
def test_no_kind_of_scores_changes_a_bit(emulated_integers, case):
    expected = fit_bits(case, "lloyd", FLOAT32)
    kinds = (FLOAT32, INTEGERS, SMALL_INTEGERS, TF32)
    for algorithm, precision in itertools.product(ALGORITHMS, kinds):
        assert fit_bits(case, algorithm, precision) == expected


@pytest.mark.slow
def test_integers_of_this_processor_change_no_bit():
    found = real_fit_bits([*ALGORITHMS], ALL)
    if found is None:
        pytest.skip("this TensorFlow has no integer products for this processor")
    cases = itertools.product(ALL, ALGORITHMS)
    assert found == [fit_bits(case, algorithm, FLOAT32) for case, algorithm in cases]

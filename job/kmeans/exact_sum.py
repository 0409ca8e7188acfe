"""Sums without any rounding, so that the order of their terms does not matter.

Those of bytes are whole numbers that float64 holds. A sum of float64 is kept as integers: for each
exponent the sums of the upper and of the lower half of the mantissas that have it. Adding two of
them adds integers, and the last step rounds once.
"""

from fractions import Fraction

import numpy as np
from scipy.sparse import csc_array

LEAST_EXPONENT = -1073  # of a float64, as np.frexp has it
NUM_EXPONENTS = 1024 - LEAST_EXPONENT + 1
MANTISSA_BITS, LOW_BITS = 53, 26
MOST_TERMS = 1 << 25  # at a time: so many halves of mantissas add up exactly in float64


def no_terms() -> np.ndarray:
    """Makes the exact sum of nothing; int64 [2, exponents]."""
    return np.zeros((2, NUM_EXPONENTS), np.int64)


def exact_sum(values: np.ndarray) -> np.ndarray:
    """Adds finite float64 [n] exactly; int64 [2, exponents], to which others may be added."""
    total = no_terms()
    for start in range(0, len(values), MOST_TERMS):
        mantissas, exponents = np.frexp(values[start : start + MOST_TERMS])
        whole = np.ldexp(mantissas, MANTISSA_BITS).astype(np.int64)
        high = whole >> LOW_BITS
        for half, part in enumerate((high, whole - (high << LOW_BITS))):
            sums = np.bincount(exponents - LEAST_EXPONENT, part, minlength=NUM_EXPONENTS)
            total[half] += sums.astype(np.int64)
    return total


def exact_weighted_sum(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Adds finite float64 [n], each as often as its weight says, exactly; as `exact_sum`.

    Args:
      weights: whole numbers up to 2²⁶, float64 [n]; None: all 1.
    """
    if weights is None or (weights == 1).all():
        return exact_sum(values)
    mantissas, exponents = np.frexp(values)
    high = np.rint(np.ldexp(mantissas, 26))  # both halves times a weight are exact
    low = np.ldexp(mantissas, 53) - np.ldexp(high, 27)
    parts = np.ldexp(high * weights, exponents - 26), np.ldexp(low * weights, exponents - 53)
    return exact_sum(np.concatenate(parts))


def rounded(total: np.ndarray) -> float:
    """Returns the float64 nearest to an exact sum."""
    units = 0  # of the last bit of the smallest number
    for exponent in np.flatnonzero(total.any(axis=0)).tolist():
        high, low = (int(half[exponent]) for half in total)
        units += ((high << LOW_BITS) + low) << exponent
    return float(Fraction(units, 1 << (MANTISSA_BITS - LEAST_EXPONENT)))


def add_to_clusters(
    sums: np.ndarray, pixels: np.ndarray, clusters: np.ndarray, weights: np.ndarray | None
) -> None:
    """Adds pixels uint8 [B, d], times their weights, to the sums float64 [k, d] of their clusters.

    Args:
      clusters: int [B]; weights: whole numbers, float64 [B]; None: all 1.
    """
    # A product with a matrix of one entry in each column; it is exact while sums stay below this.
    exact = np.float32 if weights is None and 255 * len(pixels) <= 1 << 24 else np.float64
    each = np.ones(len(pixels), exact) if weights is None else weights
    # Only of clusters that are in the block: [k, d] may be far larger than a block.
    present, own = np.unique(clusters, return_inverse=True)
    ends = np.arange(len(pixels) + 1)
    matrix = csc_array((each, own, ends), shape=(len(present), len(pixels)))
    sums[present] += matrix @ pixels.astype(exact)

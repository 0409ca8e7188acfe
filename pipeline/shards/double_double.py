"""Squared distances that do not depend on how their terms are added, exact to more than 90 bits.

They decide which of two centroids is nearer where float64 cannot tell. A double-double is a number
as the exact sum of two float64, of about 106 bits. The functions take arrays of NumPy and tensors
of TensorFlow alike.

Dekker: A floating-point technique for extending the available precision (Numerische Mathematik 18,
1971). Rump, Ogita, Oishi: Accurate floating-point summation, part I (SIAM Journal on Scientific
Computing 31, 2008).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FLOAT64_ROUNDING = 2.0**-53
# Squared distances that differ by no more than this, relative to them, are equal: their own
# rounding is below 2^-99.
TIE = 2.0**-95
PARTS = 8  # so many arrays TensorFlow adds in one step
SPLITTER = 2.0**27 + 1  # cuts the 53 bits of a float64 into two halves

# (high, low): |low| is at most half a unit in the last place of high. Arrays of one shape.
DoubleDouble = tuple[Any, Any]


class Library(NamedTuple):
    """Functions that NumPy and TensorFlow call by other names.

    Attributes:
      concat: (list of arrays, axis) → their concatenation.
      row_max, row_sum: [m, d] → [m, 1].
      maximum: of two arrays.
      total: adds a list of at most PARTS arrays one after another.
    """

    concat: Callable[[list[Any], int], Any]
    row_max: Callable[[Any], Any]
    row_sum: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    total: Callable[[list[Any]], Any]


NUMPY = Library(
    np.concatenate,
    lambda values: values.max(axis=1, keepdims=True),
    lambda values: values.sum(axis=1, keepdims=True),
    np.maximum,
    functools.partial(functools.reduce, operator.add),
)


def two_sum(a: Any, b: Any) -> DoubleDouble:
    """Adds two float64 exactly."""
    high = a + b
    of_b = high - a
    return high, (b - of_b) - ((high - of_b) - a)


def square(number: DoubleDouble) -> DoubleDouble:
    """Squares a double-double; right to about 2⁻¹⁰² of the result."""
    high, low = number
    product = high * high
    # The halves of `high` have at most 26 bits, so that the products of two are exact.
    shifted = SPLITTER * high
    first = shifted - (shifted - high)
    second = high - first
    # Subtractions only: TensorFlow turns a chain of additions into one that it may reorder.
    excess = ((product - first * first) - 2.0 * first * second) - second * second
    return _renormalised(product, 2.0 * high * low - excess)


def _renormalised(high: Any, low: Any) -> DoubleDouble:
    """Makes a double-double of a sum whose `low` is small, but not as small as it could be."""
    total = high + low
    return total, low - (total - high)


def squared_distance(a: Any, b: Any, library: Library) -> DoubleDouble:
    """Computes Σ (a − b)² over the rows of float64 [m, d]; right to about 2⁻¹⁰⁰ of the result.

    Returns:
      Two float64 [m, 1].
    """
    terms = library.concat([*square(two_sum(a, -b))], 1)
    # Cut off after a bit that is the same for all terms of a row, terms are multiples of that bit,
    # and have so few of them that their sum is exact in any order. What is cut off is summed next.
    # After two cuts rounding the rest matters no more.
    few = 2.0 ** (2 + int(terms.shape[1]).bit_length())
    cut = few * _power_of_two(library.row_max(terms), library)
    first = (cut + terms) - cut
    terms = terms - first
    cut = (few * FLOAT64_ROUNDING) * cut
    second = (cut + terms) - cut
    high, low = two_sum(library.row_sum(first), library.row_sum(second))
    return _renormalised(high, low + library.row_sum(terms - second))


def _power_of_two(size: Any, library: Library) -> Any:
    """Returns the lowest powers of two that are not below `size`; 0 for 0."""
    large = size * (1 / FLOAT64_ROUNDING)
    # 0 for a power of two, since ties are rounded to the even neighbour.
    return library.maximum((large + size) - large, size)


def row_sums(values: Any, library: Library) -> Any:
    """Adds up the columns of float64 [m, d] in an order that depends on d alone; [m].

    Sums of libraries may depend on the machine, and on how many rows are summed at a time.
    """
    while (width := int(values.shape[1])) > 1:
        size = -(-width // PARTS)
        stops = range(size, width + 1, size)
        total = library.total([values[:, stop - size : stop] for stop in stops])
        rest = values[:, stops[-1] :]
        values = library.concat([total, rest], 1) if stops[-1] < width else total
    return values[:, 0]

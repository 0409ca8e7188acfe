"""Double-double arithmetic: a number as the exact sum of two float64, of about 106 bits.

It decides which of two distances is smaller where float64 cannot tell. The functions use operators
and slices only, so that they take arrays of NumPy and tensors of TensorFlow alike, and no operation
that a machine may reorder: the same numbers give the same bits everywhere.

Dekker: A floating-point technique for extending the available precision (Numerische Mathematik 18,
1971). Knuth: The art of computer programming, volume 2, section 4.2.2.
"""

from collections.abc import Callable
from typing import Any

FLOAT64_ROUNDING = 2.0**-53
# Squared distances that differ by no more than this, relative to them, are equal: their own
# rounding is below 2^-99.
TIE = 2.0**-95
SPLITTER = 2.0**27 + 1  # cuts the 53 bits of a float64 into two halves

# NumPy's or TensorFlow's function that concatenates a list of arrays along an axis.
Concat = Callable[[list[Any], int], Any]
# (high, low): |low| is at most half a unit in the last place of high. Arrays of one shape.
DoubleDouble = tuple[Any, Any]


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


def add(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Adds two double-doubles; right to about 2⁻¹⁰⁴ of the sum of their sizes."""
    high, error = two_sum(a[0], b[0])
    low, lower = two_sum(a[1], b[1])
    high, error = _renormalised(high, error + low)
    return _renormalised(high, error + lower)


def _renormalised(high: Any, low: Any) -> DoubleDouble:
    """Makes a double-double of a sum whose `low` is small, but not as small as it could be."""
    total = high + low
    return total, low - (total - high)


def squared_distance(a: Any, b: Any, concat: Concat) -> DoubleDouble:
    """Computes Σ (a − b)² over the rows of float64 [m, d]; right to about 2⁻¹⁰⁰ of the result."""
    high, low = square(two_sum(a, -b))
    width = int(a.shape[1])
    while width > 1:
        half = _half(width)
        (first, second), (low_first, low_second) = _halves(high, half), _halves(low, half)
        total, error = add((first, low_first), (second, low_second))
        high, low = _with_rest(total, high, concat), _with_rest(error, low, concat)
        width = half
    return high[:, 0], low[:, 0]


def row_sums(values: Any, concat: Concat) -> Any:
    """Adds up the columns of float64 [m, d] in an order that depends on d alone; [m].

    Sums of libraries may depend on the machine, and on how many rows are summed at a time.
    """
    width = int(values.shape[1])
    while width > 1:
        half = _half(width)
        first, second = _halves(values, half)
        # Between two additions there is always a slice: a chain of them TensorFlow may reorder.
        values = _with_rest(first + second, values, concat)
        width = half
    return values[:, 0]


def _half(width: int) -> int:
    """Returns the largest power of two below `width`: after one step all widths are such powers."""
    return 1 << (width - 1).bit_length() - 1


def _halves(values: Any, half: int) -> tuple[Any, Any]:
    """Cuts `values` [m, width] into the columns from `half` on, and as many at the beginning."""
    return values[:, : int(values.shape[1]) - half], values[:, half:]


def _with_rest(sums: Any, values: Any, concat: Concat) -> Any:
    """Appends to `sums` the columns of `values` that are in neither of its `_halves`."""
    added, width = int(sums.shape[1]), int(values.shape[1])
    return sums if 2 * added == width else concat([sums, values[:, added : width - added]], 1)

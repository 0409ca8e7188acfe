"""Double-double arithmetic: a number as the exact sum of two float64, of about 106 bits.

It decides which of two distances is smaller where float64 cannot tell. The functions use operators
and slices only, so that they take arrays of NumPy and tensors of TensorFlow alike, and no operation
that a machine may reorder: the same numbers give the same bits everywhere.

Dekker: A floating-point technique for extending the available precision (Numerische Mathematik 18,
1971). Knuth: The art of computer programming, volume 2, section 4.2.2.
"""

from typing import Any

FLOAT64_ROUNDING = 2.0**-53
# Squared distances that differ by no more than this, relative to them, are equal: their own
# rounding is below 2^-99.
TIE = 2.0**-95
SPLITTER = 2.0**27 + 1  # cuts the 53 bits of a float64 into two halves

# (high, low): |low| is at most half a unit in the last place of high. Arrays of one shape.
DoubleDouble = tuple[Any, Any]


def two_sum(a: Any, b: Any) -> DoubleDouble:
    """Adds two float64 exactly."""
    high = a + b
    of_b = high - a
    return high, (a - (high - of_b)) + (b - of_b)


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
    """Adds two double-doubles of the same sign; right to about 2⁻¹⁰⁴ of the result."""
    high, low = two_sum(a[0], b[0])
    return _renormalised(high, low + (a[1] + b[1]))


def _renormalised(high: Any, low: Any) -> DoubleDouble:
    """Makes a double-double of a sum whose `low` is small, but not as small as it could be."""
    total = high + low
    return total, low - (total - high)


def squared_distance(a: Any, b: Any) -> DoubleDouble:
    """Computes Σ (a − b)² over the rows of float64 [m, d]; right to about 2⁻¹⁰⁰ of the result."""
    high, low = square(two_sum(a, -b))
    chunks = _chunks(int(a.shape[1]))
    columns = [(high[:, start:stop], low[:, start:stop]) for start, stop in chunks]
    total, *rest = [_folded(pair) for pair in columns]
    for part in rest:
        total = add(total, part)
    return total[0][:, 0], total[1][:, 0]


def _folded(pair: DoubleDouble) -> DoubleDouble:
    """Adds up the columns of double-doubles [m, a power of two]; [m, 1]."""
    while (width := int(pair[0].shape[1])) > 1:
        half = width // 2
        pair = add(
            *((pair[0][:, part], pair[1][:, part]) for part in (slice(half), slice(half, None)))
        )
    return pair


def row_sums(values: Any) -> Any:
    """Adds up the columns of float64 [m, d] in an order that does not depend on the rows; [m].

    Sums of libraries may depend on the machine, and on how many rows are summed at a time.
    """
    first, *rest = [values[:, start:stop] for start, stop in _chunks(int(values.shape[1]))]
    total = _halved(first)
    for part in rest:
        total = total + _halved(part)
    return total[:, 0]


def _halved(values: Any) -> Any:
    """Adds up the columns of float64 [m, a power of two]; [m, 1]."""
    while (width := int(values.shape[1])) > 1:
        values = values[:, : width // 2] + values[:, width // 2 :]
    return values


def _chunks(width: int) -> list[tuple[int, int]]:
    """Cuts `width` columns into chunks of powers of two, the largest first."""
    sizes = [1 << bit for bit in reversed(range(width.bit_length())) if width >> bit & 1]
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [(end - size, end) for size, end in zip(sizes, ends, strict=True)]

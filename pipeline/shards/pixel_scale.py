"""The scale from pixels to published values, and the grid on which their products are exact.

Published are centroids and distances: with pixels in [0, 1] for uint8 images, and as they are for
float32. `fit` and `assign` compute both from here, so that they agree to the last bit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# A squared distance is rounding, and is taken for 0, if it is at most this share of ‖x‖².
ZERO_DISTANCE = 2.0**-46
PART_BYTES = 4 << 20  # of the rows of a matrix that `by_parts` takes at a time

# A set lies far from 0 where its middle is so many times its spread away.
FAR = 8.0


class Units(NamedTuple):
    """The units of a set of images.

    Attributes:
      scale: pixels per published unit.
      step: a power of two that all centroids are multiples of, in published units; 0: there is no
        grid, as for float32 images, whose products no grid makes exact.
      quanta: powers of two, the largest first: each pixel is a sum of multiples of them whose sums
        over all images are exact in float64. Empty: those of the pixels themselves are.
    """

    scale: float
    step: float
    quanta: tuple[float, ...] = ()


def units_of(dtype: np.dtype, num_features: int) -> Units:
    """Returns the units of images of `dtype` (uint8 or float32) with `num_features` pixels."""
    if dtype != np.uint8:
        return Units(1.0, 0.0)
    # x·c is a sum of d products of 8 bits and log2(1 / step) bits, and 53 bits are exact.
    bits = math.floor(53 - math.log2(255 * num_features))
    return Units(255.0, 2.0**-bits)


def on_grid(centroids: np.ndarray, units: Units) -> np.ndarray:
    """Moves centroids [k, d] to the nearest multiples of `units.step`; float64."""
    centroids = np.asarray(centroids, np.float64)
    if not units.step:
        return centroids
    moved = centroids / units.step
    np.rint(moved, out=moved)
    moved *= units.step
    return moved


def middle_of(centroids: np.ndarray, units: Units) -> np.ndarray:
    """Returns a point [d] to compute scores of centroids float64 [k, d] from; float64.

    It is 0 where the centroids of float32 images lie around 0, else amid them: seen from there,
    scores lose few digits however far the set lies from 0. One centroid far away does not move it.
    Scores of images of bytes lose no digits anyway: it is 0.
    """
    if units.step:
        return np.zeros(centroids.shape[1])
    middle = np.median(centroids, axis=0)
    spread = np.median(np.abs(centroids - middle), axis=0)
    return np.where(np.abs(middle) > FAR * spread, middle, 0.0)


def squared_norms(centroids: np.ndarray, units: Units) -> np.ndarray:
    """Computes ‖c‖² of centroids [k, d] in float64 [k]; on the grid, whatever the order of sums.

    A square of a multiple of the step has twice its bits, and a sum of such would round. So each
    multiple is split into a high and a low half, of whose products all sums are exact.
    """
    if not units.step:
        return np.einsum("kd,kd->k", centroids, centroids)
    half = 2.0 ** (round(-math.log2(units.step)) // 2 + 1)

    def squares(part: np.ndarray) -> np.ndarray:
        multiples = part / units.step  # integers
        high = np.floor(multiples / half)
        low = multiples - high * half
        sums = [np.einsum("kd,kd->k", a, b) for a, b in ((high, high), (high, low), (low, low))]
        return ((sums[0] * half + 2 * sums[1]) * half + sums[2]) * units.step**2

    return by_parts(squares, centroids)


def by_parts(
    function: Callable[..., np.ndarray], *matrices: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Joins what `function` returns for some rows of matrices [k, d] at a time.

    What it makes on the way stays small then, though there may be many clusters.

    Args:
      out: where to put it; None: into a new array.
    """
    num_rows, width = matrices[0].shape
    size = max(1, PART_BYTES // (8 * max(1, width)))
    first = function(*(matrix[:size] for matrix in matrices))
    found = np.empty((num_rows, *first.shape[1:]), first.dtype) if out is None else out
    found[:size] = first
    for start in range(size, num_rows, size):
        own = slice(start, start + size)
        found[own] = function(*(matrix[own] for matrix in matrices))
    return found


def to_squared_distances(
    scores: Any, squared_norm: Any, units: Units, where: Callable[..., Any] = np.where
) -> Any:
    """Converts float64 scores to squared distances in published units².

    NumPy and TensorFlow get the same bits.

    Args:
      scores: scale · ‖c‖² − 2 x·c, an array of NumPy or TensorFlow.
      squared_norm: ‖x‖² in pixels², float64, of a shape that broadcasts with `scores`.
      where: the library's function of that name.
    """
    # TensorFlow's optimiser turns a division by a constant into this product, numpy does not.
    inverse = 1 / units.scale
    squared = (squared_norm * inverse + scores) * inverse
    rounding = ZERO_DISTANCE * (squared_norm * (1 / units.scale**2))
    return where(squared <= rounding, squared - squared, squared)

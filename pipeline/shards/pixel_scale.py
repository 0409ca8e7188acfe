"""How pixels relate to published values, and the grid on which their products are exact."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# A squared distance this small beside ‖x‖² is what rounding leaves of 0.
ZERO_DISTANCE = 2.0**-46


class Units(NamedTuple):
    """How pixels relate to published values.

    Attributes:
      scale: pixels per published unit.
      step: centroids are multiples of it, a power of two; 0 where no grid makes sums exact.
    """

    scale: float
    step: float


def units_of(dtype: np.dtype, num_features: int) -> Units:
    """The units of images of `dtype` (uint8 or float32) with `num_features` pixels."""
    if dtype != np.uint8:
        return Units(1.0, 0.0)
    # x·c is a sum of d products of 8 bits and log2(1 / step) bits, and 53 bits are exact.
    bits = math.floor(53 - math.log2(255 * num_features))
    return Units(255.0, 2.0**-bits)


def on_grid(centroids: np.ndarray, units: Units) -> np.ndarray:
    """Centroids [k, d] moved to the nearest multiples of `units.step`; float64."""
    centroids = np.asarray(centroids, np.float64)
    return np.rint(centroids / units.step) * units.step if units.step else centroids


def squared_norms(centroids: np.ndarray, units: Units) -> np.ndarray:
    """‖c‖² of centroids [k, d]; float64 [k], on the grid independent of the order of additions."""
    if not units.step:
        return np.einsum("kd,kd->k", centroids, centroids)
    multiples = centroids / units.step  # integers
    half = 2.0 ** (round(-math.log2(units.step)) // 2 + 1)
    high = np.floor(multiples / half)
    low = multiples - high * half
    squares = [np.einsum("kd,kd->k", a, b) for a, b in ((high, high), (high, low), (low, low))]
    return ((squares[0] * half + 2 * squares[1]) * half + squares[2]) * units.step**2


def to_squared_distances(
    scores: Any, squared_norm: Any, units: Units, where: Callable[..., Any] = np.where
) -> Any:
    """Squared distances in published units² of float64 scores: the same bits in both libraries.

    Args:
      scores: scale · ‖c‖² − 2 x·c, of numpy or TensorFlow.
      squared_norm: ‖x‖² in pixels², float64, of a shape that goes with that of `scores`.
      where: the library's.
    """
    # TensorFlow's optimiser makes this product of a division by a constant, numpy does not.
    inverse = 1 / units.scale
    squared = (squared_norm * inverse + scores) * inverse
    rounding = ZERO_DISTANCE * (squared_norm * (1 / units.scale**2))
    return where(squared <= rounding, squared - squared, squared)

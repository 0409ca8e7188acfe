"""Scores from TF32 products: centroids in two halves, where a GPU multiplies in tensor cores.

Tensor cores keep 11 bits of a factor. A pixel of a byte has 8, so it loses none; a weight w is cut
into its first 11 bits and the rest,

    w = high + low        |low| ≤ 2⁻¹⁰ |w|

and the rest loses at most 2⁻¹⁰ of itself. So two products in TF32, each several times as fast as
one in float32, tell images of bytes apart about as well.
"""

from typing import NamedTuple

import numpy as np

from job.kmeans.precision import Precision

KEPT = ~np.int32((1 << 13) - 1)  # of the bits of a float32, the sign, the exponent and 10 more


class Halves(NamedTuple):
    """Weights float32 [k, d] as a sum of two matrices of that shape.

    Attributes:
      high: their first 11 significant bits.
      low: the rest.
    """

    high: np.ndarray
    low: np.ndarray


def halves_of(weights: np.ndarray) -> Halves:
    """Cuts weights float32 [k, d]."""
    high = (weights.view(np.int32) & KEPT).view(np.float32)
    return Halves(high, weights - high)  # exact: its bits are those that were cut off


def pays(precision: Precision) -> bool:
    """Tells whether products of such a precision gain from halves, for images of bytes."""
    return precision.factors > 0


def in_halves(precision: Precision) -> Precision:
    """Returns the precision of scores of halves, where the other factor is a pixel of a byte."""
    return precision._replace(factors=precision.factors**2)

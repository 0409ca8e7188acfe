"""Which centroid is nearest to an image where scores in float64 cannot tell.

Scores leave only the centroids that are equally near but for rounding. Of these the squared
distances are computed in double-double, straight from the differences. What is equal there is taken
for a tie, which the lowest cluster wins. So the answer does not depend on how products and sums
were rounded before, and ties are ties in every algorithm and on every machine.
"""

import numpy as np

from pipeline.shards import plan
from pipeline.shards.double_double import FLOAT64_ROUNDING, NUMPY, TIE, squared_distance

PAIR_BYTES = 2 << 20  # of the differences of pairs of an image and a centroid, at a time


def doubts_of(squares: np.ndarray, scale: float, num_features: int) -> np.ndarray:
    """Bounds how far scores, scale · ‖c‖² − 2 x·c in float64, may be off; float64 [2, k].

    Args:
      squares: ‖c‖², float64 [k].
      num_features: d. Each of x and c may have been rounded to float64.

    Returns:
      That of an image x is at most ‖x‖ times the first row, plus the second.
    """
    relative = 1.01 * (num_features + 8) * FLOAT64_ROUNDING
    return relative * np.stack([2 * np.sqrt(squares), scale * squares])


def nearest_of(
    images: np.ndarray, centroids: np.ndarray, near: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Finds the nearest centroids of images, of equally near ones the lowest; int64 [n].

    Args:
      images: float64 [n, d]; centroids: float64 [k, d]; `scale` times these is in units of the
        images. All are exact.
      near: which centroids each image is compared with, at least one; bool [n, k].
    """
    clusters = near.argmax(axis=1)
    several = np.flatnonzero(near.sum(axis=1) > 1)
    most = max(1, PAIR_BYTES // (8 * centroids.size))
    for start, stop in plan.spans(0, len(several), most):
        some = several[start:stop]
        rows, candidates = np.nonzero(near[some])
        pairs = squared_distance(images[some[rows]], scale * centroids[candidates], NUMPY)
        high, low = (part[:, 0] for part in pairs)
        first = np.searchsorted(rows, np.arange(len(some)))  # pair of each image
        # Subtracting nearly equal numbers is exact, so that the difference has the digits of `low`.
        least = np.minimum.reduceat(high, first)[rows]
        above = (high - least) + low
        ties = above - np.minimum.reduceat(above, first)[rows] <= TIE * least
        clusters[some] = np.minimum.reduceat(np.where(ties, candidates, len(centroids)), first)
    return clusters

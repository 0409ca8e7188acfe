"""How well clusters are apart, by distances to centroids."""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from job.blas import one_thread
from pipeline.shards import plan

# Threads of a product of up to so many centroids wait for each other longer than one thread takes.
MANY = 1_000
PAIR_BYTES = 8 << 20  # of distances between centroids at a time
PAIRS = 4_096  # of which distances are summed up from differences at a time
TINY = np.finfo(float).tiny


def silhouettes(own: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How clearly images belong to their clusters, simplified silhouettes (b − a) / max(a, b).

    Hruschka, de Castro, Campello: Evolutionary algorithms for clustering gene-expression data
    (ICDM 2004): the silhouette with distances to centroids in place of those to all images.

    Args:
      own, second: distances a and b to the own and the second nearest centroid, float [n].

    Returns:
      float64 [n], from 0, between two clusters, to 1; 0 where both distances are 0.
    """
    larger = np.maximum(own, second)
    return np.divide(second - own, larger, out=np.zeros(len(own)), where=larger > 0)


def davies_bouldin(centroids: np.ndarray, mean_distances: np.ndarray) -> float:
    """Mean over clusters of how much each overlaps with the one it overlaps with most.

    Args:
      centroids: float [k, d].
      mean_distances: of a cluster's images to its centroid (Euclidean, not squared), float [k].

    Returns:
      Mean of max over others of (sum of both mean distances) / (distance of both centroids): low
      where clusters are narrow and far apart, 0 for one cluster. Centroids at the same place do
      not count as a pair.
    """
    widths = np.asarray(mean_distances, np.float64)
    worst = np.zeros(len(widths))
    for own, low, high in _bounds(centroids):
        both = widths[own, None] + widths
        # Centroids that may be at the same place may be no pair, so they rule no other one out.
        apart = low > 0
        least = np.where(apart, both / np.sqrt(high), 0.0)
        most = np.where(apart, both / np.sqrt(np.maximum(low, TINY)), np.inf)
        rows, others = np.nonzero(most >= np.maximum(least.max(axis=1), TINY)[:, None])
        distances = np.sqrt(_squared(centroids, own.start + rows, others))
        overlap = np.divide(
            both[rows, others], distances, out=np.zeros(len(rows)), where=distances > 0
        )
        np.maximum.at(worst, own.start + rows, overlap)
    return float(worst.mean())


def nearest_others(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest other one of each of two or more centroids, the first of equally near ones.

    Returns:
      Their numbers, int64 [k], and the distances to them, float64 [k].
    """
    nearest = np.empty(len(centroids), np.int64)
    distances = np.empty(len(centroids))
    for own, low, high in _bounds(centroids):
        rows, others = np.nonzero(low <= high.min(axis=1, keepdims=True))
        squared = _squared(centroids, own.start + rows, others)
        order = np.lexsort((others, squared, rows))
        first = order[np.searchsorted(rows, np.arange(own.stop - own.start))]
        nearest[own], distances[own] = others[first], np.sqrt(squared[first])
    return nearest, distances


def _bounds(centroids: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Bounds all squared distances between centroids [k, d], for some rows of [k, k] at a time.

    A product of matrices takes a thirtieth of the time of differences, and leaves few of these to
    be computed.

    Yields:
      Which rows; bounds below and above, float64 [B, k]. Centroids are infinitely far from
      themselves.
    """
    wide = np.asarray(centroids, np.float64)
    wide = wide - wide.mean(axis=0)
    squares = np.square(wide).sum(axis=1)
    rounding = 2.0**-52 * (wide.shape[1] + 16)
    threads = one_thread if len(wide) <= MANY else nullcontext
    for start, stop in plan.spans(0, len(wide), max(1, PAIR_BYTES // (8 * len(wide)))):
        sums = squares[start:stop, None] + squares
        with threads():
            rough = sums - 2 * (wide[start:stop] @ wide.T)
        rough[np.arange(stop - start), np.arange(start, stop)] = np.inf
        error = rounding * sums
        yield slice(start, stop), rough - error, np.maximum(rough + error, TINY)


def _squared(centroids: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Sums up squared distances of pairs of centroids, float64 [p], from their differences."""
    found = np.empty(len(some))
    for start, stop in plan.spans(0, len(some), PAIRS):
        one, other = (centroids[rows[start:stop]].astype(np.float64) for rows in (some, others))
        found[start:stop] = np.square(one - other).sum(axis=1)
    return found

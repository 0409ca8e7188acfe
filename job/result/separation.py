"""How well clusters are apart, by distances to centroids."""

import numpy as np
from scipy.spatial.distance import cdist


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
    centroids = np.asarray(centroids, np.float64)
    widths = np.asarray(mean_distances, np.float64)
    worst = np.zeros(len(centroids))
    for cluster in range(len(centroids)):  # one row at a time: no [k, k]
        apart = cdist(centroids[cluster : cluster + 1], centroids)[0]
        overlap = np.zeros(len(centroids))
        np.divide(widths + widths[cluster], apart, out=overlap, where=apart > 0)
        worst[cluster] = overlap.max()
    return float(worst.mean())

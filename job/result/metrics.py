"""How well clusters agree with labels, and how well they are apart.

Label metrics are functions of the contingency table alone: the images of each cluster and label,
counted. Counts are exact integers however many images there are.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

LABEL_METRICS = (
    "purity",
    "purity_weighted",
    "nmi",
    "ari",
    "homogeneity",
    "completeness",
    "accuracy",
)


def label_metrics(contingency: np.ndarray | None) -> dict[str, float | None]:
    """Agreement of clusters with labels, by the names of LABEL_METRICS.

    Args:
      contingency: images of each cluster and label, int64 [k, labels]; None in an unlabelled set.

    Returns:
      purity: mean over clusters that hold images of the majority label's share.
      purity_weighted: images with their cluster's majority label, over all images.
      nmi: mutual information over the arithmetic mean of both entropies.
      ari: Rand index, adjusted for chance.
      homogeneity, completeness: 1 where each cluster has one label; where each label has one
        cluster.
      accuracy: share of images with the label of their cluster, where clusters and labels are
        matched one to one so that it is highest.
      Every value is None where there is no contingency table or no image in it.
    """
    if contingency is None or not np.any(contingency):
        return dict.fromkeys(LABEL_METRICS)
    table = np.asarray(contingency, np.int64)
    homogeneity, completeness, nmi = _information(table)
    return {
        "purity": purity(table),
        "purity_weighted": purity_weighted(table),
        "nmi": nmi,
        "ari": ari(table),
        "homogeneity": homogeneity,
        "completeness": completeness,
        "accuracy": accuracy(table),
    }


def purity(contingency: np.ndarray) -> float:
    """Mean over clusters that hold images of the majority label's share."""
    sizes = contingency.sum(axis=1)
    held = sizes > 0
    return float(np.mean(contingency.max(axis=1)[held] / sizes[held]))


def purity_weighted(contingency: np.ndarray) -> float:
    """Images that have their cluster's majority label, over all images."""
    return int(contingency.max(axis=1).sum()) / int(contingency.sum())


def ari(contingency: np.ndarray) -> float:
    """Rand index of clusters and labels, 0 where it is what chance gives, 1 where they agree.

    Of two images chosen at random, how often do clusters and labels agree that they belong
    together? Pairs are Python integers: their products do not fit into 64 bits.
    """
    together = _pairs(contingency.ravel())
    in_clusters = _pairs(contingency.sum(axis=1))
    in_labels = _pairs(contingency.sum(axis=0))
    total = math.comb(int(contingency.sum()), 2)
    # (together − chance) / (mean − chance), with chance = in_clusters · in_labels / total.
    numerator = 2 * (together * total - in_clusters * in_labels)
    denominator = (in_clusters + in_labels) * total - 2 * in_clusters * in_labels
    # No room between chance and agreement: both sides put everything together, or nothing.
    return numerator / denominator if denominator else 1.0


def accuracy(contingency: np.ndarray) -> float:
    """Share of images that a one-to-one matching of clusters with labels gets right, at best."""
    clusters, labels = linear_sum_assignment(contingency, maximize=True)
    return int(contingency[clusters, labels].sum()) / int(contingency.sum())


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


def _information(contingency: np.ndarray) -> tuple[float, float, float]:
    """Homogeneity, completeness and normalised mutual information, from entropies in nats."""
    clusters = _entropy(contingency.sum(axis=1))
    labels = _entropy(contingency.sum(axis=0))
    # No less than 0 and no more than either side's own: only rounding leaves these bounds.
    shared = clusters + labels - _entropy(contingency.ravel())
    shared = min(max(shared, 0.0), clusters, labels)
    return (
        shared / labels if labels else 1.0,
        shared / clusters if clusters else 1.0,
        2 * shared / (clusters + labels) if clusters + labels else 1.0,
    )


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of shares that are proportional to `counts`."""
    shares = counts[counts > 0] / counts.sum()
    return math.fsum(-shares * np.log(shares))


def _pairs(counts: np.ndarray) -> int:
    """Pairs of images within the groups that `counts` counts."""
    return sum(math.comb(int(count), 2) for count in counts)

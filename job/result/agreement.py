"""How well clusters agree with labels.

All are functions of the contingency table alone: the images of each cluster and label, counted,
int64 [k, labels], with at least one image. Counts are exact integers however many images there are.
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment


def purity(contingency: np.ndarray) -> float:
    """Mean over clusters that hold images of the majority label's share."""
    sizes = contingency.sum(axis=1)
    held = sizes > 0
    return float(np.mean(contingency.max(axis=1)[held] / sizes[held]))


def purity_weighted(contingency: np.ndarray) -> float:
    """Images that have their cluster's majority label, over all images."""
    return int(contingency.max(axis=1).sum()) / int(contingency.sum())


def accuracy(contingency: np.ndarray) -> float:
    """Share of images that a one-to-one matching of clusters with labels gets right, at best."""
    clusters, labels = linear_sum_assignment(contingency, maximize=True)
    return int(contingency[clusters, labels].sum()) / int(contingency.sum())


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


def homogeneity(contingency: np.ndarray) -> float:
    """What clusters tell about labels, over the entropy of labels; 1 for one label a cluster."""
    shared, _, labels = _information(contingency)
    return shared / labels if labels else 1.0


def completeness(contingency: np.ndarray) -> float:
    """What clusters tell about labels, over the entropy of clusters; 1 for one cluster a label."""
    shared, clusters, _ = _information(contingency)
    return shared / clusters if clusters else 1.0


def nmi(contingency: np.ndarray) -> float:
    """What clusters tell about labels, over the mean of both entropies."""
    shared, clusters, labels = _information(contingency)
    return 2 * shared / (clusters + labels) if clusters + labels else 1.0


def _information(contingency: np.ndarray) -> tuple[float, float, float]:
    """Mutual information and the entropies of clusters and of labels, in nats."""
    clusters = _entropy(contingency.sum(axis=1))
    labels = _entropy(contingency.sum(axis=0))
    # No less than 0 and no more than either side's own: only rounding leaves these bounds.
    shared = clusters + labels - _entropy(contingency.ravel())
    return min(max(shared, 0.0), clusters, labels), clusters, labels


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of shares that are proportional to `counts`."""
    shares = counts[counts > 0] / counts.sum()
    return math.fsum(-shares * np.log(shares))


def _pairs(counts: np.ndarray) -> int:
    """Pairs of images within the groups that `counts` counts."""
    return sum(math.comb(int(count), 2) for count in counts)

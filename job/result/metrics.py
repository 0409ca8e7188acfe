"""How well clusters agree with labels, and how well they are apart: the list of all metrics.

Label metrics are functions of the contingency table alone: the images of each cluster and label,
counted. Counts are exact integers however many images there are.

METRICS, at the end, is the one list: metrics.json, the report, the page of a sweep, sweep.json and
what the terminal shows are made from it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


class Sums(Protocol):
    """Sums over assigned images, as a `Tally` has them.

    Attributes:
      counts: numbers of images by cluster, int64 [k].
      distances: Σ distance to the own centroid by cluster, published units, float64 [k].
      silhouettes: Σ simplified silhouette of the images, float64.
      contingency: numbers of images by cluster and label, int64 [k, labels].
    """

    @property
    def counts(self) -> np.ndarray: ...
    @property
    def distances(self) -> np.ndarray: ...
    @property
    def silhouettes(self) -> np.ndarray: ...
    @property
    def contingency(self) -> np.ndarray: ...


class Facts(NamedTuple):
    """What metrics are made of.

    Attributes:
      sums: over all images.
      centroids: float64 [k, d], published units.
      inertia: of all images, published units².
    """

    sums: Sums
    centroids: np.ndarray
    inertia: float


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure about a result, and how it is shown.

    Attributes:
      name: its key in metrics.json and sweep.json.
      title: its name for people.
      note: what it says, for the table of metrics in the report.
      needs: what `compute` takes: the contingency table, int64 [k, labels], or Facts. Of the
        former kind none has a value where the set has no labels.
      compute: its value; None where it has none.
      better: whether high or low values are good; None where it grows or falls with k by itself.
      over_k: its note in the page of a sweep; None: it is not shown there.
      column: its heading in what the terminal shows of a sweep; None: it is not shown there.
      line: its heading in what the terminal shows of a fit; None: it is not shown there.
      form: how the terminal formats it.
      applies: whether it says anything of the result with this metrics.json.
    """

    name: str
    title: str
    note: str
    needs: Literal["contingency", "facts"]
    compute: Callable[[Any], float | None]
    better: Literal["high", "low"] | None = None
    over_k: str | None = None
    column: str | None = None
    line: str | None = None
    form: str = ".4f"
    applies: Callable[[dict[str, Any]], bool] = lambda values: True

    def judged(self, note: str) -> str:
        """`note`, with a word on what is good."""
        return f"{note}; {self.better} is good" if self.better else note


def all_metrics(facts: Facts, labelled: bool) -> dict[str, float | None]:
    """Every metric of a result by name."""
    of_labels = label_metrics(facts.sums.contingency if labelled else None)
    return {
        metric.name: metric.compute(facts) if metric.needs == "facts" else of_labels[metric.name]
        for metric in METRICS
    }


def label_metrics(contingency: np.ndarray | None) -> dict[str, float | None]:
    """The metrics of a contingency table, int64 [k, labels], by name.

    Each is None where there is no table, as in an unlabelled set, or no image in it.
    """
    if contingency is None or not np.any(contingency):
        return dict.fromkeys(LABEL_METRICS)
    table = np.asarray(contingency, np.int64)
    return {m.name: m.compute(table) for m in METRICS if m.needs == "contingency"}


def present(values: dict[str, Any]) -> Iterator[Metric]:
    """The metrics that have a value, or that have none for this k, in metrics.json or a sweep.

    Left out are those of an unlabelled set, those that say nothing of this result, and those that
    an older version did not write.
    """
    for metric in METRICS:
        if metric.name not in values or not metric.applies(values):
            continue
        if metric.needs == "facts" or values[metric.name] is not None:
            yield metric


def is_about_one_to_one(values: dict[str, Any]) -> bool:
    """Whether a result has about as many clusters as labels: neither is twice the other.

    Elsewhere most clusters, or most labels, have no partner in a one-to-one matching.
    """
    table = values.get("contingency")
    if table is None:
        return False
    num_labels = int(np.any(np.array(table), axis=0).sum())
    return max(len(table), num_labels) < 2 * min(len(table), num_labels)


def images_per_second(values: dict[str, Any]) -> float | None:
    """Images that the iterations of a fit went through in a second; None where it is not known.

    With restarts it is not: their seconds are of all, the iterations of the best.
    """
    seconds = (values.get("seconds") or {}).get("fit")
    if not seconds or (values.get("restarts") or 1) > 1:
        return None
    return values["num_images"] * values["iterations"] / seconds


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


def mean_distances(sums: Sums) -> np.ndarray:
    """Mean distance of a cluster's images to its centroid, float64 [k]; 0 where it has none."""
    return sums.distances / np.maximum(sums.counts, 1)


def mean_silhouette(sums: Sums) -> float | None:
    """Mean simplified silhouette of all images; None for one cluster."""
    if len(sums.counts) == 1:
        return None
    return float(sums.silhouettes / sums.counts.sum())


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


METRICS = (
    Metric(
        "inertia",
        "Inertia",
        "squared distances of images to their centroids, summed",
        "facts",
        lambda facts: facts.inertia,
        over_k="falls with every k; look for the bend",
        column="inertia",
        line="inertia",
        form=".10g",
    ),
    Metric(
        "simplified_silhouette",
        "Simplified silhouette",
        "mean of how much nearer an image is to its own centroid than to the second nearest, as a "
        "share",
        "facts",
        lambda facts: mean_silhouette(facts.sums),
        better="high",
        over_k="how far apart",
        column="silhouette",
    ),
    Metric(
        "davies_bouldin",
        "Davies-Bouldin",
        "mean overlap of each cluster with the one it overlaps with most",
        "facts",
        lambda facts: davies_bouldin(facts.centroids, mean_distances(facts.sums)),
        better="low",
        over_k="mean worst overlap",
    ),
    Metric(
        "purity",
        "Purity",
        "mean over clusters of the most common label’s share",
        "contingency",
        purity,
        over_k="mean share of the most common label; rises with k by itself",
        column="purity",
        line="purity",
    ),
    Metric(
        "purity_weighted",
        "Purity, weighted",
        "images with their cluster’s most common label, over all that have a label",
        "contingency",
        purity_weighted,
        line="weighted",
    ),
    Metric(
        "nmi",
        "NMI",
        "what clusters tell about labels, over the mean of both entropies",
        "contingency",
        nmi,
        better="high",
        over_k="what clusters tell about labels",
        column="NMI",
        line="NMI",
    ),
    Metric(
        "ari",
        "ARI",
        "agreement on which images belong together; 0 is chance",
        "contingency",
        ari,
        better="high",
        line="ARI",
    ),
    Metric(
        "homogeneity",
        "Homogeneity",
        "1 where each cluster has one label",
        "contingency",
        homogeneity,
    ),
    Metric(
        "completeness",
        "Completeness",
        "1 where each label has one cluster",
        "contingency",
        completeness,
    ),
    Metric(
        "accuracy",
        "Accuracy",
        "images with the label of their cluster, at the best one-to-one matching",
        "contingency",
        accuracy,
        line="accuracy",
        applies=is_about_one_to_one,
    ),
)
LABEL_METRICS = tuple(metric.name for metric in METRICS if metric.needs == "contingency")

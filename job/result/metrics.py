"""The list of all metrics: how well clusters agree with labels, and how well they are apart.

METRICS, at the end, is the one list: metrics.json, the report, the page of a sweep, sweep.json and
what the terminal shows are made from it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from job.result import agreement
from job.result.separation import davies_bouldin
from pipeline.features import without_unit


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
      inertia: of all images, published units², each times its weight.
      are_unit: whether images are vectors of length 1, as `--normalize` makes them.
      weight: of all images together; None: their number, since all count once.
    """

    sums: Sums
    centroids: np.ndarray
    inertia: float
    are_unit: bool = False
    weight: float | None = None


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


def cosine_distance(facts: Facts) -> float | None:
    """Mean of half the squared distances to own centroids; None unless images are unit vectors.

    Half the squared distance of two vectors of length 1 is their cosine distance, 1 − cos. A
    centroid, a mean of such vectors, is shorter than 1: this is half the mean cosine distance of
    two images of a cluster.
    """
    weight = facts.weight or int(facts.sums.counts.sum())
    return facts.inertia / 2 / weight if facts.are_unit else None


def are_unit(values: dict[str, Any]) -> bool:
    """Whether the result with this metrics.json is of vectors of length 1."""
    return without_unit((values.get("transform") or {}).get("spec") or "")[1]


def mean_distances(sums: Sums) -> np.ndarray:
    """Mean distance of a cluster's images to its centroid, float64 [k]; 0 where it has none."""
    return sums.distances / np.maximum(sums.counts, 1)


def mean_silhouette(sums: Sums) -> float | None:
    """Mean simplified silhouette of all images; None for one cluster."""
    if len(sums.counts) == 1:
        return None
    return float(sums.silhouettes / sums.counts.sum())


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
        "cosine_distance",
        "Cosine distance",
        "half the squared distance of an image to its centroid, mean, of vectors of length 1",
        "facts",
        cosine_distance,
        applies=are_unit,
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
        agreement.purity,
        over_k="mean share of the most common label; rises with k by itself",
        column="purity",
        line="purity",
    ),
    Metric(
        "purity_weighted",
        "Purity, weighted",
        "images with their cluster’s most common label, over all that have a label",
        "contingency",
        agreement.purity_weighted,
        line="weighted",
    ),
    Metric(
        "nmi",
        "NMI",
        "what clusters tell about labels, over the mean of both entropies",
        "contingency",
        agreement.nmi,
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
        agreement.ari,
        better="high",
        line="ARI",
    ),
    Metric(
        "homogeneity",
        "Homogeneity",
        "1 where each cluster has one label",
        "contingency",
        agreement.homogeneity,
    ),
    Metric(
        "completeness",
        "Completeness",
        "1 where each label has one cluster",
        "contingency",
        agreement.completeness,
    ),
    Metric(
        "accuracy",
        "Accuracy",
        "images with the label of their cluster, at the best one-to-one matching",
        "contingency",
        agreement.accuracy,
        line="accuracy",
        applies=is_about_one_to_one,
    ),
)
LABEL_METRICS = tuple(metric.name for metric in METRICS if metric.needs == "contingency")

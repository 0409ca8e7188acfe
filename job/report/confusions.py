"""Differences between clusters and labels: merged, split and hidden labels, and their heat map.

All of it follows from the contingency table: images by cluster and label, int64 [k, labels].
"""

from typing import Any, NamedTuple

import numpy as np

from job.report import pictures

MERGE_PERCENT = 25  # a label counts in a cluster if it holds at least this share of it
MINOR_SHARE = 0.05  # the second and third label of a cluster are named if they hold this share
MAX_CELLS = 3_000  # of a heat map that shows figures; a larger one is a picture


class Merge(NamedTuple):
    """A cluster in which several labels hold MERGE_PERCENT or more, largest first."""

    cluster: int
    labels: list[str]
    shares: list[float]


class Split(NamedTuple):
    """A label that has the majority of several clusters, largest part of the label first.

    `together` is the share of the label that they hold, of which `shares` are the parts.
    """

    label: str
    clusters: list[int]
    shares: list[float]
    together: float


class Hidden(NamedTuple):
    """A label that has the majority of no cluster, and the cluster with the largest part of it."""

    label: str
    cluster: int
    share: float

    @property
    def is_most(self) -> bool:
        """Whether that cluster holds more than half of the label."""
        return self.share > 0.5


class Confusions(NamedTuple):
    """The differences between clusters and labels."""

    merges: list[Merge]
    splits: list[Split]
    hidden: list[Hidden]


def top_labels(counts: np.ndarray, names: list[str]) -> list[tuple[str, float]]:
    """Returns the largest labels of a cluster and their shares, largest first.

    Three at most; the second and third only where they hold MINOR_SHARE or more.
    """
    size = int(counts.sum()) or 1
    order = np.argsort(-counts, kind="stable")[:3]
    shares = [(names[label], int(counts[label]) / size) for label in order if counts[label]]
    return shares[:1] + [(name, share) for name, share in shares[1:] if share >= MINOR_SHARE]


def find(contingency: np.ndarray, names: list[str]) -> Confusions:
    """Finds the differences between clusters and labels in a contingency table [k, labels].

    A cluster merges the labels that hold MERGE_PERCENT of it or more; a label is split when it has
    the majority of two clusters or more, hidden when it has the majority of none. Empty clusters
    and labels without images are left out.
    """
    sizes, totals = contingency.sum(axis=1), contingency.sum(axis=0)
    majority = majorities(contingency)
    merges, splits, hidden = [], [], []
    for cluster in np.flatnonzero(sizes):
        counts = contingency[cluster]
        order = np.argsort(-counts, kind="stable")
        large = [label for label in order if 100 * counts[label] >= MERGE_PERCENT * sizes[cluster]]
        if len(large) > 1:
            shares = [float(counts[label] / sizes[cluster]) for label in large]
            merges.append(Merge(int(cluster), [names[label] for label in large], shares))
    for label in np.flatnonzero(totals):
        counts = contingency[:, label]
        own = np.flatnonzero(majority == label)
        own = own[np.argsort(-counts[own], kind="stable")]
        if len(own) > 1:
            shares = [float(counts[c] / totals[label]) for c in own]
            # Of counts: rounded shares add up to almost 1.
            together = float(counts[own].sum() / totals[label])
            splits.append(Split(names[label], own.tolist(), shares, together))
        elif len(own) == 0:
            most = int(counts.argmax())
            hidden.append(Hidden(names[label], most, float(counts[most] / totals[label])))
    # The strongest first: the page shows only so many at once.
    merges.sort(key=lambda merge: -merge.shares[1])
    splits.sort(key=lambda split: -len(split.clusters))
    hidden.sort(key=lambda hiding: -hiding.share)
    return Confusions(merges, splits, hidden)


def majorities(contingency: np.ndarray) -> np.ndarray:
    """Returns the label of more than half of each cluster, int64 [k]; −1 where there is none."""
    has_one = 2 * contingency.max(axis=1) > contingency.sum(axis=1)
    return np.where(has_one, contingency.argmax(axis=1), -1)


def heat(contingency: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Makes the heat map: clusters ordered by their most common label, then by its share."""
    sizes = contingency.sum(axis=1)
    commonest = contingency.argmax(axis=1)
    shares = contingency / np.maximum(sizes, 1)[:, None]
    order = np.lexsort((-shares.max(axis=1), commonest, sizes == 0))
    picture = None
    if contingency.size > MAX_CELLS:
        cells = np.rint(shares[order] * 255).astype(np.uint8)
        picture = pictures.data_uri(cells, max(cells.shape))
    return {
        "names": names,
        "order": order.tolist(),
        "commonest": commonest.tolist(),
        "counts": contingency.tolist(),
        "shares": shares.tolist(),
        "totals": contingency.sum(axis=0).tolist(),
        "picture": picture,
    }

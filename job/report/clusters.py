"""The clusters in the report: the centroid, labels, members and nearest neighbour of each."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from job.report import charts, confusions, pictures
from job.report.formatting import bounded
from job.result.examples import EXAMPLES_SHOWN, members_room
from job.result.read import Result
from job.result.separation import nearest_others

MAX_CLOSE = 5  # pairs of close centroids that the page names


class Member(NamedTuple):
    """An image of a cluster.

    Attributes:
      label: its name; None where the image has none.
      odd: whether the label differs from the cluster's most common label.
      picture: a data URI; None where vectors cannot be drawn.
    """

    id: str
    label: str | None
    distance: float
    odd: bool
    picture: str | None


class ClusterCard(NamedTuple):
    """The facts that the page shows of one cluster.

    Attributes:
      picture: a data URI of the centroid; None where it is drawn as a line.
      spark: that line, SVG path data.
      labels: (name, share) of the labels that the page names, largest first.
      merges: whether several labels hold confusions.MERGE_PERCENT or more.
      similar: the cluster of the nearest centroid and its distance; None where k = 1.
      members: by kind.
    """

    id: int
    size: int
    share: float
    picture: str | None
    spark: str | None
    labels: list[tuple[str, float]]
    merges: bool
    similar: tuple[int, float] | None
    members: dict[str, list[Member]]

    @property
    def seen(self) -> bool:
        """Whether its members are pictures."""
        return any(member.picture for own in self.members.values() for member in own)

    @property
    def face(self) -> str | None:
        """The picture that stands for it: of the centroid, or else of the image nearest to that."""
        nearest = [member.picture for member in self.members["nearest"]]
        return self.picture or (nearest[0] if nearest else None)


def describe(result: Result, contingency: np.ndarray | None, names: list[str]) -> list[ClusterCard]:
    """Describes every cluster of a result, by id.

    Args:
      contingency: images by cluster and label, int64 [k, labels]; None in an unlabelled set.
      names: names of the labels.
    """
    metrics, centroids = result.metrics, result.centroids
    sizes = metrics["cluster_sizes"]
    examples = shown(result.examples, len(sizes))
    seen, pixels, shape = as_images(result, examples["pixels"])
    photos = pictures.photos_of(examples)
    drawn: tuple[Sequence[str | None], Sequence[str | None]]
    if len(shape) > 1:
        drawn = pictures.centroids_and_members(seen, pixels[:0] if photos else pixels, shape)
        sparks: Sequence[str | None] = [None] * len(sizes)
    else:
        drawn = [None] * len(sizes), [None] * len(examples["ids"])
        sparks = charts.sparks(seen)
    if photos:
        drawn = drawn[0], pictures.photo_uris(photos)
    labels: list[list[tuple[str, float]]] = [[] for _ in sizes]
    merged: set[int] = set()
    if contingency is not None:
        labels = [confusions.top_labels(counts, names) for counts in contingency]
        merged = {merge.cluster for merge in confusions.find(contingency, names).merges}
    members = members_of(examples, drawn[1], contingency, names, len(sizes))
    similar = most_similar(centroids)
    return [
        ClusterCard(
            c,
            size,
            size / (sum(sizes) or 1),
            drawn[0][c],
            sparks[c],
            labels[c],
            c in merged,
            similar[c],
            members[c],
        )
        for c, size in enumerate(sizes)
    ]


def only_members(described: Sequence[ClusterCard]) -> bool:
    """Whether clusters are seen by their members alone: centroids of vectors are no pictures."""
    return not described[0].picture and any(card.seen for card in described)


def as_images(result: Result, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, Sequence[int]]:
    """Returns centroids, example images and their shape; vectors become images if they can.

    Args:
      pixels: of the examples, [m, d].
    """
    if result.drawable is None:
        return result.centroids, pixels, result.metrics["image_shape"]
    seen, images = result.drawable.invert(result.centroids), result.drawable.invert(pixels)
    transform = result.metrics["transform"]
    if transform["dtype"] == "uint8":  # no image was darker than black
        seen, images = seen.clip(0, 1), images.clip(0, 1)
    return seen, images, transform["image_shape"]


def shown(examples: dict[str, np.ndarray], num_clusters: int) -> dict[str, np.ndarray]:
    """Chooses the examples that the page has room for.

    The nearest are ordered from near to far, the farthest from far to near.
    """
    members = np.isin(examples["kinds"], list(EXAMPLES_SHOWN))  # others belong to no cluster's card
    examples = {name: values[members] for name, values in examples.items()}
    kinds, room = examples["kinds"], members_room(num_clusters)
    sign = np.select([kinds == "nearest", kinds == "farthest"], [1.0, -1.0], 0.0)
    taken: Counter[tuple[int, str]] = Counter()
    rows = []
    for row in np.argsort(sign * examples["distances"], kind="stable"):
        key = (int(examples["clusters"][row]), str(kinds[row]))
        taken[key] += 1
        if taken[key] <= room[key[1]]:
            rows.append(row)
    return {name: values[rows] for name, values in examples.items()}


def members_of(
    examples: dict[str, np.ndarray],
    drawn: Sequence[str | None],
    contingency: np.ndarray | None,
    names: list[str],
    num_clusters: int,
) -> list[dict[str, list[Member]]]:
    """Groups examples by cluster and kind."""
    members: list[dict[str, list[Member]]] = [
        {kind: [] for kind in EXAMPLES_SHOWN} for _ in range(num_clusters)
    ]
    commonest = None if contingency is None else contingency.argmax(axis=1)
    for i, cluster in enumerate(examples["clusters"]):
        label = -1 if commonest is None else int(examples["labels"][i])
        members[cluster][examples["kinds"][i]].append(
            Member(
                bounded(examples["ids"][i]),
                names[label] if label >= 0 else None,
                float(examples["distances"][i]),
                commonest is not None and label not in (-1, commonest[cluster]),
                drawn[i],
            )
        )
    return members


def shown_label_names(given: list[str] | None, contingency: np.ndarray | None) -> list[str]:
    """Returns the names of the labels, shortened; their numbers where no names are given."""
    count = 0 if contingency is None else contingency.shape[1]
    named = [bounded(name) for name in (given or [])[:count]]
    return named + [str(label) for label in range(len(named), count)]


def most_similar(centroids: np.ndarray) -> list[tuple[int, float] | None]:
    """For each centroid the nearest other one and its distance; None for the only one."""
    if len(centroids) < 2:
        return [None] * len(centroids)
    nearest, distances = nearest_others(centroids)
    return list(zip(nearest.tolist(), distances.tolist(), strict=True))


def close_pairs(clusters: list[ClusterCard]) -> list[tuple[int, int, float]]:
    """The closest pairs of clusters and their distances, closest first."""
    pairs = {
        (min(c.id, c.similar[0]), max(c.id, c.similar[0]), c.similar[1])
        for c in clusters
        if c.similar
    }
    return sorted(pairs, key=lambda pair: (pair[2], pair))[:MAX_CLOSE]

"""findings.json: what to look at first in a result.

All of it follows from one row for each image: what the assignments say of it, and what the pass
that wrote them has noted beside them. Sums are rounded once, ties are decided by id, so the bytes
depend neither on shards nor on workers.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from job.result.separation import nearest_others
from pipeline.shards.block import Block

MAX_OUTLIERS, MAX_SUSPECTS = 200, 1_000
MAX_GROUPS, MAX_GROUP_IDS = 1_000, 1_000  # of images with the same pixels
MAX_SHOWN = 24  # of each list in the report
PURE_SHARE = 0.9  # from which on a cluster is one of nearly one label
DIGEST_BYTES = 16  # two images with the same digest are the same: 2⁻¹²⁸ by chance


class Noted(NamedTuple):
    """What the publishing pass notes of the images of a shard, in their order.

    Attributes:
      silhouettes: simplified ones, float32 [n].
      digests: of the pixels, uint64 [n, 2].
    """

    silhouettes: np.ndarray
    digests: np.ndarray

    @classmethod
    def of(cls, block: Block, silhouettes: np.ndarray) -> "Noted":
        """Notes the images of one block with their silhouettes, float [B]."""
        # Most CPUs have instructions for SHA-256, which make it twice as fast as BLAKE2.
        rows = np.ascontiguousarray(block.pixels)
        joined = b"".join([hashlib.sha256(row).digest()[:DIGEST_BYTES] for row in rows])
        digests = np.frombuffer(joined, "<u8").reshape(-1, 2)
        return cls(silhouettes.astype(np.float32), digests)

    @classmethod
    def joined(cls, parts: "Sequence[Noted]") -> "Noted":
        """Joins what was noted of consecutive images."""
        empty = cls(np.empty(0, np.float32), np.empty((0, 2), np.uint64))
        return cls(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns both columns by name, to be saved."""
        return {"image_silhouettes": self.silhouettes, "image_digests": self.digests}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Noted":
        """Loads what `arrays` saved; other names are ignored."""
        return cls(arrays["image_silhouettes"], arrays["image_digests"])


class Rows(NamedTuple):
    """The images of a set, in the order of its shards.

    Attributes:
      clusters: int32 [n].
      distances: to the own centroid, published units, float32 [n].
      labels: int32 [n], −1 where an image has none.
      noted: of all images.
    """

    clusters: np.ndarray
    distances: np.ndarray
    labels: np.ndarray
    noted: Noted

    @classmethod
    def joined(cls, tables: Iterable[pa.Table], noted: Sequence[Noted]) -> "Rows":
        """Joins the assignments of all shards, without ids, and what was noted of them."""
        table = pa.concat_tables(
            [t.select(["cluster", "distance", "label"]) for t in tables]
        ).combine_chunks()
        return cls(
            table["cluster"].to_numpy(),
            table["distance"].to_numpy(),
            table["label"].fill_null(-1).to_numpy().astype(np.int32),
            Noted.joined(noted),
        )


class Found(NamedTuple):
    """Findings, and where the images that they name are.

    Attributes:
      findings: the content of findings.json.
      rows: the row of each image in `Rows`, by id.
    """

    findings: dict[str, Any]
    rows: dict[str, int]


Ids = Callable[[np.ndarray], list[str]]  # ids of ascending rows


def find(
    rows: Rows, ids: Ids, centroids: np.ndarray, label_names: Sequence[str] | None, lost: dict
) -> Found:
    """Finds what to look at first.

    Args:
      ids: function (rows [m], ascending) → their ids; it is called once.
      centroids: float [k, d], published units.
      label_names: names of labels 0, 1, …; None in an unlabelled set.
      lost: numbers of the images that are not among the rows, by reason.
    """
    members = _members(rows, len(centroids))
    scores = _scores(rows, members)
    common = _common_labels(rows, len(centroids), label_names)
    outliers = leading(np.flatnonzero(scores > 1), [-scores], MAX_OUTLIERS)
    groups = _same_pixels(rows.noted.digests)
    suspected = _suspected(rows, common)
    suspects = leading(suspected, [-common.shares[rows.clusters], scores], MAX_SUSPECTS)
    nearest = [own[rows.distances[own] == rows.distances[own[0]]] for own in members if len(own)]
    wanted = np.unique(np.concatenate([outliers, suspects, *groups, *nearest]).astype(np.int64))
    names = dict(zip(wanted.tolist(), ids(wanted), strict=True))

    def ordered(found: np.ndarray, *keys: np.ndarray) -> list[int]:
        """Sorts rows by keys, then by id."""
        return sorted(found.tolist(), key=lambda row: (*(key[row] for key in keys), names[row]))

    described = [
        _about_cluster(rows, cluster, own, names, common) for cluster, own in enumerate(members)
    ]
    for cluster, other in zip(described, nearest_clusters(centroids), strict=True):
        cluster["nearest_cluster"] = other
    same = sorted((sorted(names[row] for row in group) for group in groups), key=_largest_first)
    findings = {
        "clusters": described,
        "outliers": [
            {
                "id": names[row],
                "cluster": int(rows.clusters[row]),
                "distance": float(rows.distances[row]),
                "score": float(scores[row]),
            }
            for row in ordered(outliers, -scores)[:MAX_OUTLIERS]
        ],
        "duplicates": [group[:MAX_GROUP_IDS] for group in same[:MAX_GROUPS]],
        "num_duplicate_groups": len(groups),
        "num_duplicates": sum(len(group) - 1 for group in groups),
        "singletons": [c for c, own in enumerate(members) if len(own) == 1],
        "suspects": [
            {
                "id": names[row],
                "label": common.name(int(rows.labels[row])),
                "cluster": int(rows.clusters[row]),
                "majority_label": common.name(int(common.labels[rows.clusters[row]])),
            }
            for row in ordered(suspects, -common.shares[rows.clusters], scores)[:MAX_SUSPECTS]
        ],
        "num_suspects": len(suspected),
        **lost,
    }
    return Found(findings, {name: row for row, name in names.items()})


class _Common(NamedTuple):
    """The most common label of each cluster.

    Attributes:
      labels: int64 [k], −1 where no image of the cluster has a label.
      shares: of the cluster's images that have a label, float64 [k].
      names: of labels 0, 1, …
    """

    labels: np.ndarray
    shares: np.ndarray
    names: Sequence[str]

    def name(self, label: int) -> str | None:
        if label < 0:
            return None
        return self.names[label] if label < len(self.names) else str(label)


def _common_labels(rows: Rows, k: int, names: Sequence[str] | None) -> _Common:
    known = rows.labels >= 0
    num_labels = int(rows.labels.max(initial=-1)) + 1
    cells = rows.clusters[known].astype(np.int64) * num_labels + rows.labels[known]
    table = np.bincount(cells, minlength=k * num_labels).reshape(k, num_labels)
    if num_labels == 0:
        return _Common(np.full(k, -1), np.zeros(k), ())
    sizes = table.sum(axis=1)
    labels = np.where(sizes > 0, table.argmax(axis=1), -1)
    return _Common(labels, table.max(axis=1) / np.maximum(sizes, 1), names or ())


def _members(rows: Rows, k: int) -> list[np.ndarray]:
    """The rows of each cluster, from near to far."""
    order = np.lexsort((rows.distances, rows.clusters))
    return np.split(order, np.cumsum(np.bincount(rows.clusters, minlength=k))[:-1])


def _scores(rows: Rows, members: list[np.ndarray]) -> np.ndarray:
    """Distances over the median of their clusters, float64 [n].

    Where most images of a cluster lie on the centroid, as duplicates do, the mean takes the place
    of a median of 0, which would make all others infinitely unusual.
    """
    scales = np.ones(len(members))
    for cluster, own in enumerate(members):
        if len(own):
            distances = rows.distances[own].astype(np.float64)
            scales[cluster] = np.median(distances) or math.fsum(distances) / len(own) or 1.0
    return rows.distances / scales[rows.clusters]


def _suspected(rows: Rows, common: _Common) -> np.ndarray:
    """Rows whose label is not that of nearly all others of their cluster."""
    pure = common.shares >= PURE_SHARE
    others = rows.labels != common.labels[rows.clusters]
    return np.flatnonzero(pure[rows.clusters] & others & (rows.labels >= 0))


def _same_pixels(digests: np.ndarray) -> list[np.ndarray]:
    """Groups of two rows and more that have the same digest, uint64 [n, 2]."""
    # Most images share not even the first half with another: those are out after a quick sort.
    order = np.argsort(digests[:, 0])
    halves, is_shared = digests[order, 0], np.zeros(len(order), bool)
    for one, other in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
        is_shared[one] |= halves[one] == halves[other]
    some = order[is_shared]
    order = some[np.lexsort((digests[some, 1], digests[some, 0]))]
    sorted_digests = digests[order]
    starts = np.flatnonzero((sorted_digests[1:] != sorted_digests[:-1]).any(axis=1)) + 1
    edges = np.concatenate([[0], starts, [len(order)]])
    large = np.flatnonzero(np.diff(edges) > 1)
    return [order[edges[i] : edges[i + 1]] for i in large]


def leading(rows: np.ndarray, keys: list[np.ndarray], count: int) -> np.ndarray:
    """The first `count` of `rows` by `keys`, the first key first, and all that tie with the last.

    Args:
      keys: a value for every image of the set, ascending.
    """
    order = rows[np.lexsort([key[rows] for key in reversed(keys)])]
    while count < len(order) and all(key[order[count]] == key[order[count - 1]] for key in keys):
        count += 1
    return order[:count]


def _about_cluster(
    rows: Rows, cluster: int, own: np.ndarray, names: dict[int, str], common: _Common
) -> dict[str, Any]:
    """Describes a cluster whose rows are `own`, from near to far."""
    label = common.name(int(common.labels[cluster]))
    about: dict[str, Any] = {
        "cluster": cluster,
        "size": len(own),
        **dict.fromkeys(("mean_distance", "max_distance", "silhouette", "nearest_cluster")),
        "majority_label": label,
        "majority_share": None if label is None else float(common.shares[cluster]),
        "representative": None,
    }
    if not len(own):
        return about
    distances = rows.distances[own]
    nearest = own[distances == distances[0]]
    return {
        **about,
        "mean_distance": math.fsum(distances) / len(own),
        "max_distance": float(distances[-1]),
        "silhouette": math.fsum(rows.noted.silhouettes[own]) / len(own),
        "representative": min(names[row] for row in nearest.tolist()),
    }


def shown_ids(findings: dict[str, Any]) -> list[str]:
    """Returns the ids of the images that the report shows as findings."""
    groups = findings["duplicates"][:MAX_SHOWN]
    listed = findings["outliers"][:MAX_SHOWN] + findings["suspects"][:MAX_SHOWN]
    return [group[0] for group in groups] + [entry["id"] for entry in listed]


def nearest_clusters(centroids: np.ndarray) -> list[int | None]:
    """The cluster of the nearest other centroid of each of [k, d]; None for the only one."""
    if len(centroids) < 2:
        return [None]
    nearest, _ = nearest_others(centroids)
    return nearest.tolist()


def _largest_first(group: list[str]) -> tuple[int, str]:
    return -len(group), group[0]

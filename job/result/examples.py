"""Examples: the images of each cluster that the report shows."""

from typing import NamedTuple

import numpy as np

from job import hashing
from pipeline.shards import thumbnails
from pipeline.shards.assignments import Assigned

# Kind → how many images of each cluster are kept.
EXAMPLES_SHOWN = {"nearest": 5, "farthest": 5, "random": 25}
# Kind → sign: the rows of lowest sign · distance come first, then those of lowest hash.
_SIGNS = {"nearest": 1.0, "farthest": -1.0, "random": 0.0}
# Of the whole set, for the map; and how many bytes their pixels may have.
MAX_SAMPLE, MAX_SAMPLE_BYTES = 5_000, 16 << 20
SAMPLE = "sample"  # their kind
FINDING = "finding"  # the kind of the images that findings.json names and the report shows
Rows = dict[str, np.ndarray]  # name → column; all of equal length


class Examples(NamedTuple):
    """The nearest, the farthest and some random images of each cluster, and a sample of all.

    `merge` is associative and commutative, so the order of the images does not decide which ones
    are kept.

    Attributes:
      kept: by kind, the columns pixels [m, d], ids, labels, clusters, distances and hashes [m], and
        thumbnails [m] where the shards have some.
    """

    kept: dict[str, Rows]

    @classmethod
    def of(cls, assigned: Assigned, seed: int, sample_share: float = 0.0) -> "Examples":
        """Chooses examples among the images of one block.

        Args:
          sample_share: of the images that the sample gets, as `sample_share` says.
        """
        block, clusters = assigned.block, assigned.clusters
        labels = block.labels if block.labels is not None else np.full(len(clusters), -1)
        facts = {
            "clusters": clusters,
            "distances": np.sqrt(assigned.squared_distances),
            "hashes": hashing.hashes(hashing.digests(block.ids), seed, "examples"),
        }
        rows = {"pixels": block.pixels, "ids": np.array(block.ids), "labels": labels, **facts}
        if block.thumbnails is not None:
            rows["thumbnails"] = thumbnails.column(block.thumbnails)
        kept = {kind: _best(rows, kind) for kind in EXAMPLES_SHOWN}
        sampled = hashing.uniforms(facts["hashes"]) < sample_share
        return cls({**kept, SAMPLE: _by_hash(_first(rows, np.flatnonzero(sampled)))})

    def merge(self, *others: "Examples") -> "Examples":
        """Chooses examples among those of all these sets of images."""
        parts: dict[str, list[Rows]] = {}
        for examples in (self, *others):
            for kind, rows in examples.kept.items():
                parts.setdefault(kind, []).append(rows)
        joined = {kind: _joined(rows) for kind, rows in parts.items()}
        return Examples(
            {
                kind: _by_hash(rows) if kind == SAMPLE else _best(rows, kind)
                for kind, rows in joined.items()
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all columns by KIND/NAME, to be saved."""
        return {f"{kind}/{n}": v for kind, rows in self.kept.items() for n, v in rows.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Examples":
        """Loads the examples that `arrays` saved; names of another form are ignored."""
        kept: dict[str, Rows] = {}
        for name, values in arrays.items():
            kind, _, column = name.partition("/")
            if column:
                kept.setdefault(kind, {})[column] = values
        return cls(kept)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the content of examples.npz: columns of all examples, one of them their kind."""
        kept = {**self.kept}
        if SAMPLE in kept:
            kept[SAMPLE] = _by_hash(kept[SAMPLE])
        parts = [{**rows, "kinds": np.full(len(rows["ids"]), kind)} for kind, rows in kept.items()]
        names = [name for name in parts[0] if name != "hashes"]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        columns["distances"] = columns["distances"].astype(np.float32)
        return columns


def _joined(parts: list[Rows]) -> Rows:
    return {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}


def _first(rows: Rows, order: np.ndarray) -> Rows:
    return {name: values[order] for name, values in rows.items()}


def _by_hash(rows: Rows) -> Rows:
    return _first(rows, np.argsort(rows["hashes"], kind="stable")[:MAX_SAMPLE])


def sample_share(num_images: int, image_bytes: int) -> float:
    """Returns the share of a set's images that the sample for the map has room for."""
    return min(1.0, MAX_SAMPLE / num_images, MAX_SAMPLE_BYTES / (image_bytes * num_images))


def _best(rows: Rows, kind: str) -> Rows:
    """Returns the rows of every cluster that come first for `kind`, in that order."""
    order = np.lexsort([rows["hashes"], _SIGNS[kind] * rows["distances"], rows["clusters"]])
    clusters = rows["clusters"][order]
    rank = np.arange(len(order)) - np.searchsorted(clusters, clusters)
    chosen = order[rank < EXAMPLES_SHOWN[kind]]
    return _first(rows, chosen)

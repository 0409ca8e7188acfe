"""Examples: the images of each cluster that the report shows."""

from typing import NamedTuple

import numpy as np

from job import hashing
from pipeline.shards.assignments import Assigned

# Kind → how many images of each cluster are kept.
EXAMPLES_SHOWN = {"nearest": 5, "farthest": 5, "random": 25}
# Kind → sign: the rows of lowest sign · distance come first, then those of lowest hash.
_SIGNS = {"nearest": 1.0, "farthest": -1.0, "random": 0.0}
Rows = dict[str, np.ndarray]  # name → column; all of equal length


class Examples(NamedTuple):
    """The nearest, the farthest and some random images of each cluster.

    `merge` is associative and commutative, so the order of the images does not decide which ones
    are kept.

    Attributes:
      kept: by kind, the columns pixels [m, d], ids, labels, clusters, distances and hashes [m].
    """

    kept: dict[str, Rows]

    @classmethod
    def of(cls, assigned: Assigned, seed: int) -> "Examples":
        """Chooses examples among the images of one block."""
        block, clusters = assigned.block, assigned.clusters
        labels = block.labels if block.labels is not None else np.full(len(clusters), -1)
        facts = {
            "clusters": clusters,
            "distances": np.sqrt(assigned.squared_distances),
            "hashes": hashing.hashes(hashing.digests(block.ids), seed, "examples"),
        }
        rows = {"pixels": block.pixels, "ids": np.array(block.ids), "labels": labels, **facts}
        return cls({kind: _best(rows, kind) for kind in EXAMPLES_SHOWN})

    def merge(self, other: "Examples") -> "Examples":
        """Chooses examples among those of both sets of images."""
        kept = {**self.kept}
        for kind, rows in other.kept.items():
            kept[kind] = _best(_joined(kept[kind], rows), kind) if kind in kept else rows
        return Examples(kept)

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
        parts = [
            {**rows, "kinds": np.full(len(rows["ids"]), kind)} for kind, rows in self.kept.items()
        ]
        names = [name for name in parts[0] if name != "hashes"]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        columns["distances"] = columns["distances"].astype(np.float32)
        return columns


def _joined(one: Rows, other: Rows) -> Rows:
    return {name: np.concatenate([one[name], other[name]]) for name in one}


def _best(rows: Rows, kind: str) -> Rows:
    """Returns the rows of every cluster that come first for `kind`, in that order."""
    order = np.lexsort([rows["hashes"], _SIGNS[kind] * rows["distances"], rows["clusters"]])
    clusters = rows["clusters"][order]
    rank = np.arange(len(order)) - np.searchsorted(clusters, clusters)
    chosen = order[rank < EXAMPLES_SHOWN[kind]]
    return {name: values[chosen] for name, values in rows.items()}

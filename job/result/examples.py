"""Examples: the images of each cluster that the report shows."""

from typing import NamedTuple

import numpy as np

from job import hashing
from pipeline.shards import plan, thumbnails
from pipeline.shards.assignments import Assigned

# Kind → how many images of each cluster are kept, if all have room.
EXAMPLES_SHOWN = {"nearest": 5, "farthest": 5, "random": 25}
# Kind → sign: the rows of lowest sign · distance come first, then those of lowest hash.
_SIGNS = {"nearest": 1.0, "farthest": -1.0, "random": 0.0}
# Of all clusters together: as many as a page has room for; and bytes of their pixels.
MAX_MEMBERS, MAX_MEMBER_BYTES = 4_000, 128 << 20
# Of the whole set, for the map; and how many bytes their pixels may have.
MAX_SAMPLE, MAX_SAMPLE_BYTES = 5_000, 16 << 20
SAMPLE = "sample"  # their kind
FINDING = "finding"  # the kind of the images that findings.json names and the report shows
ROOM = "examples_room"  # the name under which `Examples.room` is saved
COPIED = 256  # rows at a time
Rows = dict[str, np.ndarray]  # name → column; all of equal length


class Choice(NamedTuple):
    """What decides, beside distances, which images are kept.

    Attributes:
      seed: of the fit.
      sample_share: of the set's images, which the sample gets.
      room: kind → how many images of each cluster are kept.
    """

    seed: int
    sample_share: float = 0.0
    room: dict[str, int] = EXAMPLES_SHOWN

    @classmethod
    def of(cls, seed: int, num_images: int, num_clusters: int, image_bytes: int) -> "Choice":
        """Makes the choice for a set of images of `image_bytes` each."""
        room = members_room(num_clusters, image_bytes)
        return cls(seed, sample_share(num_images, image_bytes), room)


class Examples(NamedTuple):
    """The nearest, the farthest and some random images of each cluster, and a sample of all.

    `merge` is associative and commutative, so the order of the images does not decide which ones
    are kept.

    Attributes:
      kept: by kind, the columns pixels [m, d], ids, labels, clusters, distances and hashes [m], and
        thumbnails [m] where the shards have some.
      room: kind → how many images of each cluster are kept.
    """

    kept: dict[str, Rows]
    room: dict[str, int] = EXAMPLES_SHOWN

    @classmethod
    def of(cls, assigned: Assigned, choice: Choice) -> "Examples":
        """Chooses examples among the images of one block."""
        block, clusters = assigned.block, assigned.clusters
        labels = block.labels if block.labels is not None else np.full(len(clusters), -1)
        hashes = hashing.hashes(hashing.digests(block.ids), choice.seed, "examples")
        rows = {
            "pixels": block.pixels,
            "ids": np.array(block.ids),
            "labels": labels,
            "clusters": clusters,
            "distances": np.sqrt(assigned.squared_distances),
            "hashes": hashes,
        }
        if block.thumbnails is not None:
            rows["thumbnails"] = thumbnails.column(block.thumbnails)
        orders = {kind: _best(rows, kind, choice.room) for kind in EXAMPLES_SHOWN}
        sampled = np.flatnonzero(hashing.uniforms(hashes) < choice.sample_share)
        orders[SAMPLE] = sampled[_lowest(hashes[sampled])]
        return cls({kind: _taken([rows], order) for kind, order in orders.items()}, choice.room)

    def merge(self, *others: "Examples") -> "Examples":
        """Chooses examples among those of all these sets of images."""
        parts: dict[str, list[Rows]] = {}
        for examples in (self, *others):
            for kind, rows in examples.kept.items():
                parts.setdefault(kind, []).append(rows)
        room = {kind: min(each.room[kind] for each in (self, *others)) for kind in EXAMPLES_SHOWN}
        kept = {}
        for kind, each in parts.items():
            keys = {
                name: np.concatenate([rows[name] for rows in each])
                for name in ("clusters", "distances", "hashes")
            }
            order = _lowest(keys["hashes"]) if kind == SAMPLE else _best(keys, kind, room)
            kept[kind] = _taken(each, order)
        return Examples(kept, room)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all columns by KIND/NAME, to be saved."""
        columns = {f"{kind}/{n}": v for kind, rows in self.kept.items() for n, v in rows.items()}
        return {**columns, ROOM: np.array([self.room[kind] for kind in EXAMPLES_SHOWN])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Examples":
        """Loads the examples that `arrays` saved; names of another form are ignored."""
        kept: dict[str, Rows] = {}
        for name, values in arrays.items():
            kind, _, column = name.partition("/")
            if column:
                kept.setdefault(kind, {})[column] = values
        return cls(kept, dict(zip(EXAMPLES_SHOWN, arrays[ROOM].tolist(), strict=True)))

    def columns(self, found: Rows | None = None) -> Rows:
        """Returns the content of examples.npz: columns of all examples, one of them their kind.

        Args:
          found: columns of the images that are shown as findings; they come last.
        """
        parts = [
            {**rows, "kinds": np.full(len(rows["ids"]), kind)} for kind, rows in self.kept.items()
        ]
        names = [name for name in parts[0] if name != "hashes"]
        if found is not None and len(found["ids"]):
            parts.append({**found, "kinds": np.full(len(found["ids"]), FINDING)})
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        columns["distances"] = columns["distances"].astype(np.float32)
        return columns


def members_room(num_clusters: int, image_bytes: int = 1) -> dict[str, int]:
    """Returns how many images of each kind a cluster keeps; of many large ones the nearest alone.

    Args:
      image_bytes: of the pixels of an image.
    """
    total = sum(EXAMPLES_SHOWN.values())
    held = MAX_MEMBER_BYTES // (num_clusters * image_bytes)
    if held <= len(EXAMPLES_SHOWN):
        return {kind: int(kind == "nearest") for kind in EXAMPLES_SHOWN}
    room = min(total, MAX_MEMBERS // num_clusters, held)
    return {kind: max(1, count * room // total) for kind, count in EXAMPLES_SHOWN.items()}


def sample_share(num_images: int, image_bytes: int) -> float:
    """Returns the share of a set's images that the sample for the map has room for."""
    return min(1.0, MAX_SAMPLE / num_images, MAX_SAMPLE_BYTES / (image_bytes * num_images))


def _lowest(hashes: np.ndarray) -> np.ndarray:
    """Returns the rows of the sample, in their order."""
    return np.argsort(hashes, kind="stable")[:MAX_SAMPLE]


def _best(rows: Rows, kind: str, room: dict[str, int]) -> np.ndarray:
    """Returns the rows of every cluster that come first for `kind`, in that order."""
    order = np.lexsort([rows["hashes"], _SIGNS[kind] * rows["distances"], rows["clusters"]])
    clusters = rows["clusters"][order]
    rank = np.arange(len(order)) - np.searchsorted(clusters, clusters)
    return order[rank < room[kind]]


def _taken(parts: list[Rows], order: np.ndarray) -> Rows:
    """Takes rows, numbered through all parts, without a copy of the parts."""
    if len(parts) == 1:
        return {name: column[order] for name, column in parts[0].items()}
    starts = np.cumsum([0, *(len(rows["hashes"]) for rows in parts)])
    taken = {}
    for name, first in parts[0].items():
        dtype = np.result_type(*(rows[name].dtype for rows in parts))
        taken[name] = np.empty((len(order), *first.shape[1:]), dtype)
    for rows, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
        own = np.flatnonzero((start <= order) & (order < stop))
        for a, b in plan.spans(0, len(own), COPIED):
            for name, column in taken.items():
                column[own[a:b]] = rows[name][order[own[a:b]] - start]
    return taken

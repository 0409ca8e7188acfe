"""Images that the report may show as findings, kept with their pixels while a set goes by.

Which images are the most unusual, or doubtfully labelled, is known only once all have been seen.
But within a cluster they come first by distance alone: so a few of each cluster are enough.
"""

import numpy as np

from job.result.examples import Rows
from job.result.findings import MAX_SHOWN
from pipeline.shards import thumbnails
from pipeline.shards.assignments import Assigned

MAX_KEPT = 4_000  # images of each sort, of all clusters together
MAX_KEPT_BYTES = 64 << 20  # of their pixels
HELD_BLOCKS = 16  # whose candidates are chosen again at a time


def room_for(num_clusters: int, image_bytes: int) -> int:
    """Returns how many images of each sort a cluster keeps: as many as are shown, if they fit."""
    room = min(MAX_KEPT, MAX_KEPT_BYTES // image_bytes) // num_clusters
    return min(max(room, 1), MAX_SHOWN)


class Candidates:
    """The farthest images of each cluster, and the nearest of those with an uncommon label.

    What is kept depends on the images that were added, not on their order.
    """

    def __init__(self, num_clusters: int, room: int):
        """Begins with no image; `room` is as `room_for` says."""
        self._room = room
        self._held: list[Rows] = []
        # Images nearer than `_far`, and farther than `_near`, of their clusters cannot be kept.
        self._far = np.full(num_clusters, -np.inf)
        self._near = np.full(num_clusters, np.inf)

    def add(self, assigned: Assigned) -> None:
        """Adds the images of one block."""
        block, clusters = assigned.block, assigned.clusters
        distances = np.sqrt(assigned.squared_distances).astype(np.float32)
        labels = block.labels if block.labels is not None else np.full(len(clusters), -1)
        is_near = (labels >= 0) & (distances <= self._near[clusters])
        kept = np.flatnonzero((distances >= self._far[clusters]) | is_near)
        rows = {
            "pixels": block.pixels[kept],
            "ids": np.array([block.ids[row] for row in kept.tolist()], str),
            "labels": labels[kept],
            "clusters": clusters[kept],
            "distances": distances[kept],
        }
        if block.thumbnails is not None:
            rows["thumbnails"] = thumbnails.column([block.thumbnails[row] for row in kept.tolist()])
        self.add_rows(rows)

    def add_rows(self, rows: Rows) -> None:
        """Adds images, as columns of examples."""
        self._held.append(rows)
        if len(self._held) > HELD_BLOCKS:
            self._choose()

    def rows(self) -> Rows:
        """Returns the images that are kept; {} if none was added."""
        if self._held:
            self._choose()
        return self._held[0] if self._held else {}

    def _choose(self) -> None:
        """Leaves only the images that belong to the candidates among all that are held."""
        rows = {name: np.concatenate([r[name] for r in self._held]) for name in self._held[0]}
        order = np.lexsort([rows["ids"], rows["distances"], rows["clusters"]])
        clusters = rows["clusters"][order]
        starts = np.flatnonzero(np.diff(clusters, prepend=-1))
        kept = []
        for own in np.split(order, starts[1:]):
            kept += [self._far_ones(rows, own), self._near_ones(rows, own)]
        chosen = np.unique(np.concatenate([np.empty(0, int), *kept]))
        self._held = [{name: values[chosen] for name, values in rows.items()}]

    def _far_ones(self, rows: Rows, own: np.ndarray) -> np.ndarray:
        """The farthest rows of a cluster, `own` from near to far; of equally far ones by id."""
        room, distances = self._room, rows["distances"][own]
        if len(own) <= room:
            return own
        least = distances[-room]
        self._far[rows["clusters"][own[0]]] = least
        surely = own[distances > least]
        return np.concatenate([surely, own[distances == least][: room - len(surely)]])

    def _near_ones(self, rows: Rows, own: np.ndarray) -> np.ndarray:
        """The nearest rows of a cluster that have another label than the most common one.

        Which one that will be is not known: so these are the nearest for every label that it may
        be. Only for those among the nearest of all does it make a difference.
        """
        room = self._room
        own = own[rows["labels"][own] >= 0]
        labels = rows["labels"][own]
        kept, is_full = np.arange(len(own)) < room, len(own) >= room
        for common in np.unique(labels[:room]):
            others = np.flatnonzero(labels != common)
            kept[others[:room]] = True
            is_full &= len(others) >= room
        found = own[kept]
        if is_full:
            self._near[rows["clusters"][own[0]]] = rows["distances"][found[-1]]
        return found

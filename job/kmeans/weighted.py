"""Cluster sums of rows that stand for several equal images each."""

from typing import Any

import numpy as np

from job.images.protocol import Images
from job.kmeans import Algorithm
from job.kmeans.sums import Change, change_of, moved_sums


class Weighted:
    """Implements `Algorithm` with the assignments of another, whose sums count each row once."""

    def __init__(self, algorithm: Algorithm, images: Images, k: int):
        self._algorithm, self._images, self._copies = algorithm, images, images.copies
        self._sum = images.compile(_moved_copies, images.units, (k, images.num_features))

    @property
    def clusters(self) -> Any:
        return self._algorithm.clusters

    def start(self) -> None:
        self._algorithm.start()
        # Its own: the algorithm may overwrite the clusters of its last assignment.
        self._before = self._images.state(lambda count: np.full(count, -1))

    def assign(self, centroids: np.ndarray) -> Change:
        self._algorithm.assign(centroids)
        self._before, totals = self._sum((self._before, self.clusters, self._copies), None)
        return change_of(totals)


def _moved_copies(images, squared_norm, state, shared, units, shape):
    """A step: its partial sums are `moved_sums` of shape [k, d]; its state, the clusters now."""
    before, after, copies = state
    return after, list(moved_sums(images, before, after, shape, units, copies=copies))

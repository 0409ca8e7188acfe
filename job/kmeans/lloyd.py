"""Lloyd's algorithm: compares every image with every centroid in every iteration.

Lloyd: Least squares quantization in PCM (IEEE Transactions on Information Theory, 1982).
"""

from typing import Any

import numpy as np

from job.images.protocol import Images
from job.kmeans.scores import nearest_centroids, scorer_of
from job.kmeans.sums import Change, change_of, moved_sums


class Lloyd:
    """Implements `Algorithm` in 8 bytes an image, and skips nothing."""

    def __init__(self, images: Images, k: int):
        self._images = images
        self._step = images.compile(_assign, images.units, (k, images.num_features))
        self.clusters: Any = None

    def start(self) -> None:
        self.clusters = self._images.state(lambda count: np.full(count, -1, np.int64))

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        self.clusters, totals = self._step(self.clusters, scorer)
        return change_of(totals)


def _assign(images, squared_norm, clusters, scorer, units, shape):
    """A step: assigns every image anew; its partial sums are `moved_sums` of `shape` [k, d]."""
    after = nearest_centroids(images, squared_norm, scorer, units).clusters
    return after, list(moved_sums(images, clusters, after, shape, units))

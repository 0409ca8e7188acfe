"""Lloyd's algorithm: every image against every centroid, in every iteration.

Lloyd: Least squares quantization in PCM (IEEE Transactions on Information Theory, 1982).
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from job.config import FitConfig
from job.images.protocol import Images
from job.kmeans.scores import nearest_centroids, scorer_of
from job.kmeans.sums import ClusterSums, moved_sums


class Change(NamedTuple):
    """What one assignment changes.

    Attributes:
      sums: what to add to the cluster sums.
      changed: images that changed cluster.
    """

    sums: ClusterSums
    changed: int


class Algorithm(Protocol):
    """Assigns images to their nearest centroids, again and again as the centroids move.

    All algorithms make the same assignments; they differ in the work they avoid.

    Attributes:
      clusters: of each image, int64 [n_r] on its replica; −1 before the first assignment.
    """

    @property
    def clusters(self) -> Any: ...

    def start(self) -> None:
        """Forgets all assignments, before the first of a restart."""
        ...

    def assign(self, centroids: np.ndarray) -> Change:
        """Assigns every image to the nearest of `centroids` [k, d], on the grid."""
        ...


class Lloyd:
    """The plain algorithm: 8 bytes an image."""

    def __init__(self, images: Images, config: FitConfig):
        self._images, self._step = images, images.compile(_assign, images.units)
        self.clusters: Any = None

    def start(self) -> None:
        self.clusters = self._images.state(lambda count: np.full(count, -1, np.int64))

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        self.clusters, totals = self._step(self.clusters, scorer)
        return change(totals)


def _assign(images, squared_norm, clusters, scorer, units):
    after = nearest_centroids(images, squared_norm, scorer, units).clusters
    return after, list(moved_sums(images, clusters, after, scorer.centroids.shape))


def change(totals: list[np.ndarray]) -> Change:
    """The Change in the totals of `moved_sums` over all images."""
    sums, counts, changed = totals
    return Change(ClusterSums(sums, np.rint(counts).astype(np.int64)), int(changed))

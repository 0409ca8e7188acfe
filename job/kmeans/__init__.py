"""The algorithms: initial centroids, assignments, cluster sums, the loop over iterations.

This module holds the one list of algorithms and the one list of initialisations, each next to the
protocol that its entries implement. An entry is "module:name" and is imported when it is chosen, so
that the command line can name them all without loading TensorFlow. To add one, write its module and
add a line here.
"""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from job.config import FitConfig
    from job.images.protocol import Images
    from job.kmeans.init import Seeding
    from job.kmeans.sums import Change


class Algorithm(Protocol):
    """Assigns images to their nearest centroids, again and again as the centroids move.

    Made by calling its entry of ALGORITHMS with (images, number of clusters). All algorithms make
    the same assignments; they differ in the work they avoid. Where one of their passes has partial
    sums, a list, these begin with `moved_sums` from the clusters that are first in its old state to
    those that are first in its new one: `weighted.counting` puts others in their place.

    Attributes:
      clusters: of each image, int64 [n_r] on its replica; −1 before the first assignment.
    """

    @property
    def clusters(self) -> Any: ...

    def start(self) -> None:
        """Forgets all assignments; called at the beginning of a restart."""

    def assign(self, centroids: "np.ndarray") -> "Change":
        """Assigns every image to its nearest centroid; returns what that changes.

        Args:
          centroids: float64 [k, d], published units, on the grid.
        """


class Initialisation(Protocol):
    """Chooses the images that become the initial centroids."""

    def __call__(self, images: "Images", seeding: "Seeding") -> "np.ndarray":
        """Returns the pixels [k, d] of the k images it chooses.

        Raises:
          UserError: fewer distinct images than k.
        """


ALGORITHMS = {
    "lloyd": "job.kmeans.lloyd:Lloyd",
    "hamerly": "job.kmeans.hamerly:hamerly",
}
# Instead of one of these, `--init` may be the path of a .npy file of centroids.
INITS = {
    "random": "job.kmeans.init:random_initial_images",
    "k-means++": "job.kmeans.kmeans_plus_plus:initial_images",
    "k-means||": "job.kmeans.kmeans_parallel:initial_images",
}


def chosen_algorithm(config: "FitConfig") -> str:
    """Returns the name of the algorithm that `config` asks for: the fastest one for `auto`."""
    if config.algorithm != "auto":
        return config.algorithm
    # With one centroid there is no second nearest, and nothing to skip.
    return "hamerly" if config.k > 1 else "lloyd"


def load(entry: str) -> Any:
    """Imports an entry of ALGORITHMS or INITS."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)

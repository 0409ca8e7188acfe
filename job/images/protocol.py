"""What the algorithms see of the images of a set, wherever their pixels are kept.

An algorithm needs to know how many images there are and how wide they are; it runs passes over all
of them, keeps a state of one row per image between passes, and reads a few of them by place.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from job.distribute.replicas import Step
from job.images.places import Place
from job.kmeans.precision import Precision
from pipeline.shards.pixel_scale import Units

# (state, shared) → (state, totals)
Pass = Callable[[Any, Any], tuple[Any, list[np.ndarray]]]


class Images(Protocol):
    """All images of a set, shared out among the replicas of all workers.

    No result depends on which replica has which images, nor on their order there.

    Attributes:
      num_images: n, of all workers.
      num_features: d.
      units: of the pixels.
      precision: of float32 products on the replicas.
      squared_norm_total: Σ‖x‖² of all workers' images, pixels²; an exact integer for uint8.
      digests: of the ids, uint64 [n_r] for each replica r of this worker.
      spare_row_bytes: memory that states may take for each image, the same in all workers.
    """

    num_images: int
    num_features: int
    units: Units
    precision: Precision
    squared_norm_total: float
    digests: list[np.ndarray]
    spare_row_bytes: int

    def compile(self, step: Step, *options: Any) -> Pass:
        """Makes a pass over all images: (state, shared) → (state, totals).

        The state that is passed in is used up if the new one has its dtypes and shapes.

        Args:
          step: (images [n_r, d] as `stored`, ‖x‖² float64 [n_r], state, shared, *options) → (state,
            partial sums that are added over all replicas). A function of a module, so that its
            graph is traced once for these images. It treats every image alike, and its states
            have a row for each image.
          options: further arguments of `step`, hashable.
        """

    def forget_passes(self) -> None:
        """Drops the graphs of all passes: those of one k are of no use to a fit with another."""

    def state(self, make: Callable[[int], Any]) -> Any:
        """Makes a state for passes: what `make` returns for the number of images of a replica."""

    def local(self, state: Any) -> list[np.ndarray]:
        """Reads a state that is one tensor: this worker's part, in the order of `digests`."""

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        """Finds the `count` images of all workers with the smallest keys: (*keys, Place), in order.

        Args:
          keys: the first key, then those that decide between equal ones; each [n_r] per replica.
          count: how many; fewer are returned where there are not that many images.
        """

    def holds(self, place: Place) -> bool:
        """Whether the image lies in this worker."""

    def take(self, where: Sequence[Place]) -> np.ndarray:
        """Reads the images at the places `where`, of any worker, in the set's dtype; [m, d]."""

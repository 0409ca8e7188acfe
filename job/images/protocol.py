"""What the algorithms see of the images of a set, wherever their pixels are kept.

An algorithm knows how many images there are and how many pixels they have. It runs passes over all
of them, keeps a state with one row per image between passes, and reads a few of them by place.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from job.distribute.replicas import Step
from job.images.frame import Frame
from job.images.places import Place
from job.kmeans.precision import Precision
from pipeline.shards.pixel_scale import Units

# (state, shared) → (state, totals)
Pass = Callable[[Any, Any], tuple[Any, list[np.ndarray]]]


class Images(Protocol):
    """All images of a set, divided among the replicas of all workers.

    No result depends on which replica has which images, or in which order.

    Attributes:
      num_images: n, the images of all workers.
      num_features: d.
      frame: the coordinates of all pixels, norms and centroids here.
      units: of the pixels.
      precision: of products on the replicas.
      squared_norm_total: Σ‖x‖² of all workers' images, pixels², rounded once.
      copies: how many equal images a row stands for, float64, as a state: `state` and `compile`
        have one row for all of them. None: each row is one image.
      weights: of the images that `digests` are of, float64 [n_r] for each replica; None: all are 1.
        What is drawn at random is drawn in proportion to them, and `total` counts them.
      weight_unit: what a weight of 1 here, and a copy, stands for.
      digests: of the ids, uint64 [n_r] for each replica r of this worker.
      spare_row_bytes: memory that states may take for each image, the same in all workers.
    """

    num_images: int
    num_features: int
    frame: Frame
    units: Units
    precision: Precision
    squared_norm_total: float
    copies: Any
    weights: list[np.ndarray] | None
    weight_unit: float
    digests: list[np.ndarray]
    spare_row_bytes: int

    def compile(self, step: Step, *options: Any) -> Pass:
        """Makes a pass over all images: (state, shared) → (state, totals).

        If the new state has the dtypes and shapes of the one that was given, it may overwrite it:
        then only the new one may be used.

        Args:
          step: (images [n_r, d] as `stored`, ‖x‖² float64 [n_r], state, shared, *options) → (state,
            partial sums that are added over all replicas). A function at the top level of a
            module: as it is the same object each time, its graph is traced once for these images.
            It treats every image alike, and its states have a row for each image.
          options: further arguments of `step`, hashable.
        """

    def forget_passes(self) -> None:
        """Drops the graphs of all passes, since a fit with another k cannot use them."""

    def state(self, make: Callable[[int], Any]) -> Any:
        """Makes a state for passes: for each replica, `make` of its number of rows."""

    def local(self, state: Any) -> list[np.ndarray]:
        """Reads this worker's part of a state that is one tensor, in the order of `digests`."""

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        """Finds the `count` images of all workers with the smallest keys: (*keys, Place), in order.

        Args:
          keys: the first key, then those that decide between equal ones; each [n_r] per replica.
          count: how many; fewer are returned where there are not that many images.
        """

    def total(self, values: list[np.ndarray]) -> float:
        """Adds float64 numbers of the images of all workers, [n_r] per replica, and rounds once."""

    def holds(self, place: Place) -> bool:
        """Tells whether the image at `place` lies in this worker."""

    def take(self, where: Sequence[Place]) -> np.ndarray:
        """Reads the images at the places `where`, of any worker, in the set's dtype; [m, d]."""

"""Decides when a screen is made anew, once it has lost as much as a new one costs, or given up."""

from typing import Any

import numpy as np
import tensorflow as tf

from job.images.protocol import Images
from job.kmeans.graphs import traced
from job.kmeans.hamerly.screen import Basis, basis_of, project

# The cost of reading an image, in products with one column.
IMAGE_COST = 30
# Of so many centroids leading directions are computed: copies of all would take much memory.
SAMPLE_CENTROIDS = 2048
# A screen that leaves more than this share of all images in doubt saves less than bounds alone do.
WORTHWHILE = 0.6

_basis_of = traced(tf.function(basis_of, autograph=False))


class ScreenUpkeep:
    """Holds the screen of a set of images, and decides when to renew it and when to give it up.

    As centroids move away from the span of the basis, the screen leaves more and more images in
    doubt. All costs are counted in images scored in full, against all centroids.

    Attributes:
      columns: dimensions of the screen, d'.
      basis: the one that images are projected into; None: there is no screen now.
      rows: of the screen: z, ‖r‖ and 1 for each image, float32 [n, d' + 2]; () without a screen.
      is_worthwhile: False once a screen left too many images in doubt. For such images none is
        likely to ever pay.
    """

    def __init__(self, images: Images, k: int, columns: int):
        self.columns = columns
        self._num_images, self._num_features = images.num_images, images.num_features
        self._project = images.compile(project, images.units, images.precision)
        self._cost = images.num_images * (columns + IMAGE_COST) / (k + IMAGE_COST)
        # Two products of bytes take the place of one of float32: scoring in full costs less then.
        cheaper = min(1.0, 2 / max(1, images.precision.piece_speed))
        self._most_cost = WORTHWHILE * cheaper * images.num_images
        self.is_worthwhile = True
        # Directions of the images that the basis takes beyond the span of the centroids.
        self._directions: Any = self.probes()
        self.start()

    def start(self) -> None:
        """Forgets the screen, before the first assignment of a restart."""
        self.basis: Basis | None = None
        self.rows: Any = ()
        self._loss = 0.0  # what a fresh screen would have saved since this one was made
        # Of the images screened, the share that had to be scored when the screen was fresh.
        self._fresh_share: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether a new screen would pay."""
        return self._loss > self._cost

    def renew(self, centroids: np.ndarray, before: np.ndarray) -> None:
        """Projects all images into a new basis, made for centroids [k, d] and how they moved."""
        self.rows = ()  # frees the memory of the old rows before the new ones are made
        some = slice(None, None, -(-len(centroids) // SAMPLE_CENTROIDS))
        self.basis = _basis_of(centroids[some], before[some], self.probes(), self._directions)
        self.rows, _ = self._project((), self.basis)
        self._loss, self._fresh_share = 0.0, None

    def probes(self) -> np.ndarray:
        """Draws directions [d, d'] that subspace iterations begin with, the same each time."""
        return np.random.default_rng(0).standard_normal((self._num_features, self.columns))

    def note_full_pass(self, directions: np.ndarray) -> None:
        """Counts a pass that scored all images, and keeps their leading `directions` [d, d']."""
        self._directions = directions
        self._loss += self._num_images

    def note_screened(self, num_screened: float, cost: float) -> None:
        """Counts an assignment of the images in doubt, and tells whether the screen was any help.

        Args:
          num_screened: images that were in doubt.
          cost: of assigning those that the screen left in doubt, in images scored in full.
        """
        share = cost / max(num_screened, 1)
        self._fresh_share = share if self._fresh_share is None else self._fresh_share
        self._loss += max(0.0, share - self._fresh_share) * num_screened
        self.is_worthwhile = self.is_worthwhile and cost <= self._most_cost

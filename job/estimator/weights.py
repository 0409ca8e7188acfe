"""Weights of rows: the images they make, and the sum of squared distances that counts them."""

import numpy as np

from job.images.array import ArrayImages, Graphs, array_images, weights_entry
from job.images.protocol import Images
from job.images.rows import squared_pixel_norms
from job.images.weighted import in_units, unit_of
from job.kmeans.exact_sum import add_to_clusters, exact_weighted_sum, no_terms, rounded
from job.kmeans.sums import ClusterSums
from job.kmeans.sums import inertia as inertia_of_sums
from pipeline.shards.assignments import Assigned
from pipeline.shards.pixel_scale import units_of


def images_of(
    pixels: np.ndarray, weights: np.ndarray | None, graphs: Graphs, origin: np.ndarray | None
) -> Images:
    """Makes the images of rows, which have weights if these are not None."""
    if weights is None or (weights == 1).all():
        return array_images(pixels, graphs, origin)
    return ArrayImages(pixels, graphs, origin, weights)


class Inertia:
    """Adds up squared distances of rows to their centers, block by block.

    Its bits are those that the command line publishes.
    """

    def __init__(self, centers: np.ndarray, scale: float, weights: np.ndarray | None = None):
        """Begins a sum.

        Args:
          centers: [k, d].
          scale: what a unit of published bytes is; 1 for other rows.
          weights: of all rows, float64 [n], not all 0; None: all 1.
        """
        self._units = units_of(np.dtype("uint8" if scale != 1 else "float64"), centers.shape[1])
        self._published = centers.astype(np.float64)
        if self._units.step:
            self._published = (centers / scale).astype(np.float32).astype(np.float64)
        self._total = ClusterSums.zero(*centers.shape)
        self._norms, self._squares = no_terms(), no_terms()
        self._unit, self._weights = 1.0, weights
        if weights is not None and weights.any():
            self._unit = unit_of(weights_entry(weights), len(weights))
            self._weights = in_units(weights, self._unit)

    def add(self, found: Assigned, rows: slice) -> None:
        """Adds some of the rows."""
        each = None if self._weights is None else self._weights[rows]
        if not self._units.step:
            self._squares += exact_weighted_sum(found.squared_distances, each)
            return
        pixels, clusters = found.block.pixels, found.clusters
        self._norms += exact_weighted_sum(squared_pixel_norms(pixels), each)
        add_to_clusters(self._total.sums, pixels, clusters, each)
        counts = np.bincount(clusters, each, minlength=len(self._total.counts))
        self._total.counts[:] += counts.astype(np.int64)

    def value(self) -> float:
        """Returns the sum, in the units of the rows."""
        if not self._units.step:
            return rounded(self._squares) * self._unit
        norms = rounded(self._norms)
        found = inertia_of_sums(norms, self._total, self._published, self._units)
        return found * self._units.scale**2 * self._unit

"""Weights of rows: what they are rounded to, the images they make, and sums that count them."""

import math

import numpy as np

from job.images.array import ArrayImages, Graphs, array_images
from job.images.protocol import Images
from job.images.weighted import RepeatedImages, WeightedImages
from job.kmeans.exact_sum import exact_sum, no_terms, rounded
from job.kmeans.sums import ClusterSums
from job.kmeans.sums import inertia as inertia_of_sums
from pipeline.shards.assignments import Assigned
from pipeline.shards.pixel_scale import units_of

# Whole weights count as repeated rows as long as there are no more of these.
MOST_COPIES = 1 << 26
# Other weights are multiples of the power of two above the largest, divided by this.
STEPS = 1 << 20


def images_of(
    pixels: np.ndarray, weights: np.ndarray | None, graphs: Graphs, origin: np.ndarray | None
) -> tuple[Images, float]:
    """Makes the images of the rows that have a weight.

    Returns:
      The images, and the unit of their weights.
    """
    if weights is None:
        return array_images(pixels, graphs, origin), 1.0
    units, unit = in_units(weights)
    kept = units > 0
    if not kept.all():
        pixels, units = pixels[kept], units[kept]
    if unit == 1 and units.sum() <= MOST_COPIES:
        if units.max() == 1:
            return ArrayImages(pixels, graphs, origin), 1.0
        return RepeatedImages(pixels, graphs, origin, units.astype(np.int64)), 1.0
    return WeightedImages(pixels, graphs, origin, units), unit


def in_units(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Rounds weights, float64 [n], to whole multiples of a unit; returns these, and the unit."""
    if (weights == np.rint(weights)).all() and weights.max() <= STEPS:
        return weights, 1.0
    unit = 2.0 ** math.frexp(weights.max())[1] / STEPS
    return np.rint(weights / unit), unit


class Inertia:
    """Adds up squared distances of rows to their centers, block by block.

    Its bits are those that the command line publishes.
    """

    def __init__(self, centers: np.ndarray, scale: float):
        """Takes the centers [k, d], and what a unit of published bytes is; 1 for other rows."""
        self._units = units_of(np.dtype("uint8" if scale != 1 else "float64"), centers.shape[1])
        self._published = centers.astype(np.float64)
        if self._units.step:
            self._published = (centers / scale).astype(np.float32).astype(np.float64)
        self._total = ClusterSums.zero(*centers.shape)
        self._norms, self._squares = 0.0, no_terms()

    def add(self, found: Assigned, weights: np.ndarray | None) -> None:
        """Adds rows, with weights float64 [B]; None: all 1."""
        each = np.ones(len(found.clusters)) if weights is None else weights
        if not self._units.step:
            self._squares = self._squares + exact_sum(_repeated(found.squared_distances, each))
            return
        wide = found.block.pixels.astype(np.float64)
        self._norms += float(np.square(wide).sum(axis=1) @ each)
        self._total = self._total.merge(_sums(wide, found.clusters, each, self._total.sums.shape))

    def value(self) -> float:
        """Returns the sum, in the units of the rows."""
        if not self._units.step:
            return rounded(self._squares)
        found = inertia_of_sums(self._norms, self._total, self._published, self._units)
        return found * self._units.scale**2


def _repeated(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns numbers whose exact sum is that of values [B] that are repeated by whole weights."""
    if (weights == 1).all():
        return values
    mantissas, exponents = np.frexp(values)
    high = np.rint(np.ldexp(mantissas, 26))  # both halves times a weight are exact
    low = np.ldexp(mantissas, 53) - np.ldexp(high, 27)
    parts = np.ldexp(high * weights, exponents - 26), np.ldexp(low * weights, exponents - 53)
    return np.concatenate(parts)


def _sums(
    pixels: np.ndarray, clusters: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> ClusterSums:
    """Adds up rows float64 [B, d] by cluster."""
    sums = np.zeros(shape)
    order = np.argsort(clusters, kind="stable")
    present, starts = np.unique(clusters[order], return_index=True)
    sums[present] = np.add.reduceat(pixels[order] * weights[order, None], starts, axis=0)
    return ClusterSums(sums, np.bincount(clusters, weights, minlength=len(sums)))

"""Hamerly's algorithm for few centroids: one bound an image, and a screen that spans them all.

The bound is one below the gap, by which the second nearest centroid is farther than the nearest:
the difference of Hamerly's two bounds. It shrinks by how far the image's own centroid moved, and by
the farthest move of any other.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from job.images.protocol import Images
from job.kmeans.blocks import by_rows
from job.kmeans.hamerly.groups import groups_of, losses_of
from job.kmeans.hamerly.screen import (
    Screen,
    image_norms,
    leading,
    screen_of,
    screened_per_block,
)
from job.kmeans.hamerly.upkeep import ScreenUpkeep
from job.kmeans.lowest import nearest_two
from job.kmeans.precision import FLOAT32_ROUNDING
from job.kmeans.scores import Assignment, gap_of, nearest_centroids, scorer_of
from job.kmeans.sums import Change, change_of, moved_sums
from pipeline.shards.pixel_scale import Units


class FewCentroids:
    """Implements `Algorithm` in 12 bytes an image, and 4 (d' + 2) for a screen of d' dimensions.

    Attributes:
      screen: the one it has.
      bounds: of all images: clusters, and lower bounds of their gaps.
    """

    def __init__(self, images: Images, k: int, columns: int):
        """Takes the number of dimensions of the screen, `columns`, at least one."""
        self._images = images
        self.screen = ScreenUpkeep(images, k, columns)
        self._assign_all = images.compile(_assign_all, images.units)
        self._assign_in_doubt = images.compile(_assign_in_doubt, images.units, images.precision)
        self.start()

    @property
    def clusters(self) -> Any:
        return self.bounds.clusters

    def start(self) -> None:
        self.screen.start()
        self._before: np.ndarray | None = None
        self.bounds = self._images.state(_unknown)

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        screen = self.screen
        before, self._before = self._before, centroids
        if screen.is_due:
            screen.renew(centroids, centroids if before is None else before)
        if before is None or screen.basis is None:
            # Without bounds or a screen most images are in doubt: picking them would not pay.
            probes = screen.probes().astype(np.float32)
            self.bounds, outcome = self._assign_all(self.bounds, (scorer, probes))
            *totals, directions = outcome
            screen.note_full_pass(directions)
            return change_of(totals)
        losses = losses_of(centroids, before, groups_of(centroids, 1))[:, 0]
        shared = (scorer, losses, screen.basis)
        state = (self.bounds, screen.rows)
        (self.bounds, screen.rows), outcome = self._assign_in_doubt(state, shared)
        *totals, num_screened, cost = outcome
        screen.note_screened(float(num_screened), float(cost))
        return change_of(totals)


def _unknown(count: int) -> Assignment:
    """Makes the bounds of images before their first assignment."""
    return Assignment(np.full(count, -1, np.int64), np.zeros(count, np.float32))


def _assign_all(images, squared_norm, bounds, shared, units):
    """A step: assigns every image as Lloyd's algorithm does.

    The partial sums end with the images' leading directions, for the next screen.
    """
    scorer, probes = shared
    found = nearest_centroids(images, squared_norm, scorer, units)
    shape = scorer.centroids.shape
    sums = moved_sums(images, bounds.clusters, found.clusters, shape, units)
    return found, [*sums, leading(images, probes)]


def _assign_in_doubt(images, squared_norm, state, shared, units, precision):
    """A step: assigns the images whose gap may be gone, by the screen where it can tell.

    The partial sums end with the number of images in doubt, and of those scored in full.
    """
    bounds, rows = state
    scorer, losses, basis = shared
    # tf.gather takes twice as long for scalars.
    bounds = bounds._replace(gaps=bounds.gaps - tf.gather_nd(losses, bounds.clusters[:, None]))
    doubt = tf.where(bounds.gaps <= 0)[:, 0]
    before = tf.gather(bounds.clusters, doubt)
    screen = screen_of(scorer, basis, units, precision)
    found = _screened(rows, squared_norm, doubt, screen, units)
    left = tf.where(found.gaps <= 0)[:, 0]
    scored = nearest_centroids(images, squared_norm, scorer, units, tf.gather(doubt, left))
    found = _updated(found, left, scored)
    shape = scorer.centroids.shape
    sums = moved_sums(images, before, found.clusters, shape, units, doubt)
    counts = [tf.cast(tf.size(part), tf.float64) for part in (doubt, left)]
    return (_updated(bounds, doubt, found), rows), [*sums, *counts]


def _updated(bounds: Assignment, rows: tf.Tensor, found: Assignment) -> Assignment:
    """Replaces the bounds of the images in `rows` by those found."""
    pairs = zip(bounds, found, strict=True)
    return Assignment(*(tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in pairs))


def _screened(
    rows: tf.Tensor, squared_norm: tf.Tensor, doubt: tf.Tensor, screen: Screen, units: Units
) -> Assignment:
    """Assigns the images in `doubt` by the screen alone; gaps are 0 where it cannot tell.

    Args:
      rows: of the screen, float32 [n, d' + 2].
      squared_norm: pixels², float64 [n].
      doubt: rows of images, int64 [m].
    """

    def block(start, stop):
        index = doubt[start:stop]
        row = tf.gather(rows, index)
        clusters, lowest, others = nearest_two(row, [screen.weights])
        # The screen gives lower bounds; of the nearest centroid, the gap needs an upper one.
        upper = lowest + tf.gather(screen.widths, clusters) * row[:, -2]
        norm = image_norms(squared_norm, index, units)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        return [clusters, _gaps(norm, upper, others, margin)]

    dtypes = [tf.int64, tf.float32]
    return Assignment(*by_rows(block, tf.size(doubt), screened_per_block(screen), dtypes))


def _gaps(norm: tf.Tensor, upper: tf.Tensor, others: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Makes lower bounds of gaps from bounds of ‖y − c‖² − ‖y‖² for the nearest and the others."""
    slack = margin + 4 * FLOAT32_ROUNDING * tf.square(norm)
    distance = tf.maximum(tf.square(norm) + upper + slack, 0.0)
    return gap_of(distance, tf.maximum(others - upper - margin, 0.0))

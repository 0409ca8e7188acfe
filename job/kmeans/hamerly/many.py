"""Hamerly's algorithm for many centroids: distances to the own centroid and to its rivals.

Every image keeps an upper bound of the distance to its own centroid and a lower bound of those to
all others (Hamerly: Making k-means even faster, SDM 2010). After centroids moved, in this order:

1. All images are screened against the few centroids that moved farthest, so that lower bounds fall
   only by what the others moved.
2. Where the bounds overlap, the upper one becomes the distance to the own centroid.
3. Where they still overlap, the image is screened against all centroids, and its distances to its
   rivals are computed: those that may be nearer than the own one.
4. What is still in doubt is assigned as Lloyd's algorithm does.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from job.images.protocol import Images
from job.kmeans.blocks import by_rows
from job.kmeans.hamerly.bounds import Bounds, known, moved, moves_of, unknown, updated
from job.kmeans.hamerly.rivals import compared
from job.kmeans.hamerly.screen import lower_bounds, screen_of, screened_per_block
from job.kmeans.hamerly.upkeep import ScreenUpkeep
from job.kmeans.scores import Scorer, nearest_centroids, scorer_of
from job.kmeans.sums import Change, change_of, moved_sums


class ManyCentroids:
    """Implements `Algorithm` in 16 bytes an image, and 4 (d' + 2) for a screen of d' dimensions.

    Attributes:
      screen: the one it has.
      bounds: of all images.
    """

    def __init__(self, images: Images, k: int, columns: int):
        """Takes the number of dimensions of the screen, `columns`, at least one."""
        self._images = images
        self.screen = ScreenUpkeep(images, k, columns)
        self._guess = images.compile(_guess, images.units, images.precision)
        self._in_doubt = images.compile(_assign_in_doubt, images.units, images.precision)
        self.start()

    @property
    def clusters(self) -> Any:
        return self.bounds.clusters

    def start(self) -> None:
        self.screen.start()
        self._before: np.ndarray | None = None
        self.bounds = self._images.state(unknown)

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        screen = self.screen
        before, self._before = self._before, centroids
        if before is None:
            return self._assign_first(centroids, scorer)
        if screen.is_due:
            screen.renew(centroids, before)
        return self._assign_in_doubt(centroids, before, scorer)

    def _assign_first(self, centroids: np.ndarray, scorer: Scorer) -> Change:
        """Guesses every cluster by the screen, then corrects the guesses that are wrong."""
        screen = self.screen
        screen.renew(centroids, centroids)
        state = (self.bounds, screen.rows)
        (self.bounds, screen.rows), totals = self._guess(state, (scorer, screen.basis))
        guessed = change_of(totals)
        corrected = self._assign_in_doubt(centroids, centroids, scorer)
        return Change(guessed.sums.merge(corrected.sums), guessed.changed)  # all, but once each

    def _assign_in_doubt(self, centroids: np.ndarray, before: np.ndarray, scorer: Scorer) -> Change:
        """Assigns the images whose bounds overlap now that centroids moved from `before`."""
        screen = self.screen
        shared = (scorer, moves_of(centroids, before), screen.basis)
        state = (self.bounds, screen.rows)
        (self.bounds, screen.rows), outcome = self._in_doubt(state, shared)
        *totals, num_screened, cost = outcome
        screen.note_screened(float(num_screened), float(cost))
        return change_of(totals)


def _guess(images, squared_norm, state, shared, units, precision):
    """A step: assigns every image to the centroid with the lowest bound of the screen."""
    bounds, rows = state
    scorer, basis = shared
    screen = screen_of(scorer, basis, units, precision)

    def block(start, stop):
        return [tf.argmin(lower_bounds(rows[start:stop], screen), axis=1)]

    (clusters,) = by_rows(block, tf.size(squared_norm), screened_per_block(screen), [tf.int64])
    sums = moved_sums(images, bounds.clusters, clusters, scorer.centroids.shape, units)
    return (bounds._replace(clusters=clusters), rows), list(sums)


def _assign_in_doubt(images, squared_norm, state, shared, units, precision):
    """A step: assigns the images whose bounds overlap.

    The partial sums end with how many were screened, and with what assigning them cost, as a number
    of images that could have been scored in full at that cost.
    """
    bounds, rows = state
    scorer, moves, basis = shared
    screen = screen_of(scorer, basis, units, precision)
    bounds = moved(bounds, rows, squared_norm, moves, screen, units)
    doubt = tf.where(bounds.upper >= bounds.lower)[:, 0]
    # By cluster: then the own centroids of a block are few, which `rivals` relies on.
    doubt = tf.gather(doubt, tf.argsort(tf.gather(bounds.clusters, doubt)))
    before = Bounds(*(tf.gather(part, doubt) for part in bounds))
    found, num_screened, cost = compared(
        images, rows, squared_norm, doubt, before, scorer, screen, units
    )
    left = tf.where(found.upper >= found.lower)[:, 0]
    left = tf.gather(left, tf.argsort(tf.gather(doubt, left)))  # in the order of the images
    scored = nearest_centroids(images, squared_norm, scorer, units, tf.gather(doubt, left))
    found = updated(found, left, known(scored))
    cost += tf.cast(tf.size(left), tf.float64)
    shape = scorer.centroids.shape
    sums = moved_sums(images, before.clusters, found.clusters, shape, units, doubt)
    return (updated(bounds, doubt, found), rows), [*sums, num_screened, cost]

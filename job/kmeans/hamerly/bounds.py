"""The two bounds that many centroids keep of each image, and how they follow moving centroids."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import by_rows
from job.kmeans.hamerly.screen import (
    Screen,
    infinitely_far,
    lower_bounds,
    screened_per_block,
)
from job.kmeans.precision import FLOAT32_ROUNDING
from job.kmeans.scores import Assignment
from job.kmeans.sums import distances_moved
from pipeline.shards.pixel_scale import Units

FAST_SHARE = 0.2  # of the centroids: those that all images are screened against
# Multiplied by one of these, a bound that float32 rounded a few times is a bound again.
SMALLER, LARGER = np.float32(1 - 2.0**-20), np.float32(1 + 2.0**-20)


class Bounds(NamedTuple):
    """The bounds that images keep from one assignment to the next.

    Attributes:
      clusters: int64 [n].
      upper: at least the distance to the own centroid, float32 [n].
      lower: at most the distance to any other, float32 [n].
    """

    clusters: tf.Tensor
    upper: tf.Tensor
    lower: tf.Tensor


class Moves(NamedTuple):
    """How far centroids moved, rounded up.

    Attributes:
      of_own: of each centroid, float32 [k].
      fast: the centroids that moved farthest, int64 [m].
      still: which of these did not move at all, bool [m, 1].
      places: where each centroid is in `fast`, int64 [k]; −1: it is not.
      of_slow: how far the others moved at most, float32.
    """

    of_own: np.ndarray
    fast: np.ndarray
    still: np.ndarray
    places: np.ndarray
    of_slow: np.floating


def moves_of(centroids: np.ndarray, before: np.ndarray) -> Moves:
    """Measures how centroids [k, d] moved."""
    moves = distances_moved(centroids, before) * LARGER
    order = np.argsort(-moves, kind="stable")
    fast, slow = np.split(order, [max(1, round(FAST_SHARE * len(moves)))])
    places = np.full(len(moves), -1)
    places[fast] = np.arange(len(fast))
    of_slow = np.float32(moves[slow[0]]) if len(slow) else np.float32(0.0)
    still = (centroids[fast] == before[fast]).all(axis=1, keepdims=True)
    return Moves(moves.astype(np.float32), fast, still, places, of_slow)


def unknown(count: int) -> Bounds:
    """Makes the bounds of images before their first assignment."""
    infinite = np.full(count, np.inf, np.float32)
    return Bounds(np.full(count, -1, np.int64), infinite, np.zeros(count, np.float32))


def known(found: Assignment) -> Bounds:
    """Makes the bounds of images that were assigned as Lloyd's algorithm does."""
    # Other centroids are farther than the own one by the gap, so at least as far as the gap.
    return Bounds(found.clusters, tf.fill(tf.shape(found.gaps), np.float32(np.inf)), found.gaps)


def updated(bounds: Bounds, rows: tf.Tensor, found: Bounds) -> Bounds:
    """Replaces the bounds of the images in `rows` by those found."""
    pairs = zip(bounds, found, strict=True)
    return Bounds(*(tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in pairs))


def moved(
    bounds: Bounds,
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    moves: Moves,
    screen: Screen,
    units: Units,
) -> Bounds:
    """Makes the bounds hold after centroids moved.

    Lower bounds come from a screening of all images against the fast centroids, and from the old
    ones, looser by the moves of the slow centroids.

    Args:
      rows: of the screen, float32 [n, d' + 2].
      squared_norm: pixels², float64 [n].
    """
    # The old bounds hold for what did not move, and are closer than the screen's.
    weights = tf.gather(screen.weights, moves.fast)
    weights = tf.where(moves.still, infinitely_far(1, screen), weights)
    fast = screen._replace(weights=weights)
    places = tf.gather(moves.places, bounds.clusters)

    def block(start, stop):
        norm = tf.cast(tf.sqrt(squared_norm[start:stop]) / units.scale, tf.float32)
        # Adding infinity hides the own centroid: see lowest.lowest_two.
        own = tf.one_hot(places[start:stop], fast.weights.shape[0], np.float32(np.inf), 0.0)
        lowest = tf.reduce_min(lower_bounds(rows[start:stop], fast) + own, axis=1)
        return [at_least(norm, lowest - (screen.rounding[0] * norm + screen.rounding[1]))]

    size = screened_per_block(fast)
    (of_fast,) = by_rows(block, tf.size(squared_norm), size, [tf.float32])
    upper = bounds.upper + tf.gather(moves.of_own, bounds.clusters)
    lower = SMALLER * (bounds.lower - moves.of_slow)
    return Bounds(bounds.clusters, LARGER * upper, tf.minimum(lower, of_fast))


def at_least(norm: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """Converts a lower bound of ‖y − c‖² − ‖y‖² to one of the distance, rounded down."""
    square = tf.square(norm)
    squared = tf.maximum(square + score - 4 * FLOAT32_ROUNDING * square, 0.0)
    return SMALLER * tf.sqrt(squared)


def at_most(norm: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """Converts an upper bound of ‖y − c‖² − ‖y‖² to one of the distance, rounded up."""
    square = tf.square(norm)
    squared = tf.maximum(square + score + 4 * FLOAT32_ROUNDING * square, 0.0)
    return LARGER * tf.sqrt(squared)

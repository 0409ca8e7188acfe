"""Hamerly's algorithm where centroids are many: distances to the own centroid and to its rivals.

Of each image an upper bound of the distance to its own centroid and a lower bound of that to all
others are kept (Hamerly: Making k-means even faster, SDM 2010), and tightened in this order while
they overlap:

1. The centroids that moved farthest are few, and would spoil the lower bounds of all images: all
   are screened against these few, so that lower bounds fall only by what the others moved.
2. The upper bound becomes the distance to the own centroid.
3. The image is screened against all centroids; of those that may be nearer, its rivals, the
   distances are computed.
4. What is still in doubt is assigned as Lloyd's algorithm does.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import by_rows, images_per_block, take
from job.kmeans.precision import FLOAT32_ROUNDING
from job.kmeans.scores import Assignment, Scorer, nearest_centroids, rounded_weights
from job.kmeans.screen import Screen, block_rows, lower_bounds, norms, screen_of
from job.kmeans.sums import moved_sums
from pipeline.shards.pixel_scale import Units

# Costs in products with one column: reading an image, a distance to a single centroid.
IMAGE_COST, DISTANCE_COST = 30, 40
FAST_SHARE = 0.2  # of the centroids: those that all images are screened against
RIVALS = 1024  # whose distances are computed at a time
GROUP = 32  # centroids that one lowest bound stands for
# What float32 rounds by a little, made a bound again.
SMALLER, LARGER = np.float32(1 - 2.0**-20), np.float32(1 + 2.0**-20)


class Bounds(NamedTuple):
    """What an image carries from one assignment to the next.

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
      places: where a centroid is in `fast`, −1: not there; int64 [k].
      of_slow: the farthest of the others, float32.
    """

    of_own: np.ndarray
    fast: np.ndarray
    places: np.ndarray
    of_slow: np.floating


def moves_of(centroids: np.ndarray, before: np.ndarray) -> Moves:
    """How centroids [k, d] moved."""
    moves = np.sqrt(np.square(centroids - before).sum(axis=1)) * LARGER
    order = np.argsort(-moves, kind="stable")
    fast, slow = np.split(order, [max(1, round(FAST_SHARE * len(moves)))])
    places = np.full(len(moves), -1)
    places[fast] = np.arange(len(fast))
    of_slow = np.float32(moves[slow[0]]) if len(slow) else np.float32(0.0)
    return Moves(moves.astype(np.float32), fast, places, of_slow)


def unknown(count: int) -> Bounds:
    """The bounds of images before their first assignment."""
    infinite = np.full(count, np.inf, np.float32)
    return Bounds(np.full(count, -1, np.int64), infinite, np.zeros(count, np.float32))


def known(nearest: Assignment) -> Bounds:
    """The bounds of images that were assigned as Lloyd's algorithm does."""
    # The others are farther away than the own centroid is, by the gap: at least by the gap.
    return Bounds(
        nearest.clusters, tf.fill(tf.shape(nearest.gaps), np.float32(np.inf)), nearest.gaps
    )


def guess(images, squared_norm, state, shared, units):
    """Assigns every image to what the screen holds for the nearest; that is often right."""
    bounds, rows = state
    scorer, basis = shared
    screen = screen_of(scorer, basis, units)

    def block(start, stop):
        return [tf.argmin(lower_bounds(rows[start:stop], screen), axis=1)]

    (clusters,) = by_rows(block, tf.size(squared_norm), block_rows(screen), [tf.int64])
    sums = moved_sums(images, bounds.clusters, clusters, scorer.centroids.shape)
    return (bounds._replace(clusters=clusters), rows), list(sums)


def assign_in_doubt(images, squared_norm, state, shared, units):
    """Assigns the images whose bounds overlap.

    The partial sums end with how many were screened, and what assigning them cost: images that
    could have been scored in full.
    """
    bounds, rows = state
    scorer, moves, basis = shared
    screen = screen_of(scorer, basis, units)
    bounds = _moved(bounds, rows, squared_norm, moves, screen, units)
    doubt = tf.where(bounds.upper >= bounds.lower)[:, 0]
    # Images of a cluster follow each other: see _own_products.
    doubt = tf.gather(doubt, tf.argsort(tf.gather(bounds.clusters, doubt)))
    before = Bounds(*(tf.gather(part, doubt) for part in bounds))
    found, compared, cost = _compared(
        images, rows, squared_norm, doubt, before, scorer, screen, units
    )
    left = tf.where(found.upper >= found.lower)[:, 0]
    nearest = nearest_centroids(images, squared_norm, scorer, units, tf.gather(doubt, left))
    found = _updated(found, left, known(nearest))
    cost += tf.cast(tf.size(left), tf.float64)
    shape = scorer.centroids.shape
    sums = moved_sums(images, before.clusters, found.clusters, shape, doubt)
    return (_updated(bounds, doubt, found), rows), [*sums, compared, cost]


def _updated(bounds: Bounds, rows: tf.Tensor, found: Bounds) -> Bounds:
    """The bounds with what was found for the images in `rows`."""
    pairs = zip(bounds, found, strict=True)
    return Bounds(*(tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in pairs))


def _moved(
    bounds: Bounds,
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    moves: Moves,
    screen: Screen,
    units: Units,
) -> Bounds:
    """The bounds after centroids moved: screened against the fast ones, looser by the others."""
    fast = screen._replace(weights=tf.gather(screen.weights, moves.fast))
    places = tf.gather(moves.places, bounds.clusters)

    def block(start, stop):
        norm = tf.cast(tf.sqrt(squared_norm[start:stop]) / units.scale, tf.float32)
        # Added, not chosen by a condition: see lowest_two.
        own = tf.one_hot(places[start:stop], fast.weights.shape[0], np.float32(np.inf), 0.0)
        lowest = tf.reduce_min(lower_bounds(rows[start:stop], fast) + own, axis=1)
        return [_at_least(norm, lowest - (screen.rounding[0] * norm + screen.rounding[1]))]

    (of_fast,) = by_rows(block, tf.size(squared_norm), block_rows(fast), [tf.float32])
    upper = bounds.upper + tf.gather(moves.of_own, bounds.clusters)
    lower = SMALLER * (bounds.lower - moves.of_slow)
    return Bounds(bounds.clusters, LARGER * upper, tf.minimum(lower, of_fast))


def _at_least(norm: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """The distance for a lower bound of ‖y − c‖² − ‖y‖², rounded down."""
    square = tf.square(norm)
    squared = tf.maximum(square + score - 4 * FLOAT32_ROUNDING * square, 0.0)
    return SMALLER * tf.sqrt(squared)


def _at_most(norm: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """The distance for an upper bound of ‖y − c‖² − ‖y‖², rounded up."""
    square = tf.square(norm)
    squared = tf.maximum(square + score + 4 * FLOAT32_ROUNDING * square, 0.0)
    return LARGER * tf.sqrt(squared)


def _compared(
    images: tf.Tensor,
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    before: Bounds,
    scorer: Scorer,
    screen: Screen,
    units: Units,
) -> tuple[Bounds, tf.Tensor, tf.Tensor]:
    """The images in `doubt` as far as distances to few centroids tell.

    Args:
      images: [n, d], as `stored`; rows: of the screen, float32 [n, d' + 2].
      squared_norm: pixels², float64 [n].
      doubt: rows of images, int64 [m]; before: their bounds, by cluster in ascending order.

    Returns:
      Their bounds, which overlap where more is to be done; how many were screened; and what the
      distances to their rivals cost: images that could have been scored in full. Float64.
    """
    weights, bias = (part / np.float32(units.scale) for part in rounded_weights(scorer, images))
    # Distances to more than this cost more than those to all.
    most = (scorer.centroids.shape[0] + IMAGE_COST) / DISTANCE_COST
    # Of a score itself, and of the screen's bounds: `rough`.
    exactly = scorer.margin * np.array([1, 1 / units.scale], np.float32)
    screen = _bordered(screen)

    def block(start, stop):
        index = doubt[start:stop]
        clusters, lower = before.clusters[start:stop], before.lower[start:stop]
        norm = norms(squared_norm, index, units)
        margin = exactly[0] * norm + exactly[1]
        pixels = tf.cast(take(images, index), tf.float32)
        score = _own_products(pixels, clusters, weights) + tf.gather(bias, clusters)
        bounds = Bounds(clusters, _at_most(norm, score + margin), lower)

        overlap = tf.where(bounds.upper >= lower)[:, 0]
        index, own, score, norm, margin = (
            tf.gather(part, overlap) for part in (index, clusters, score, norm, margin)
        )
        rough = screen.rounding[0] * norm + screen.rounding[1]
        near = lower_bounds(tf.gather(rows, index), screen)
        image, clusters, others = _nearer(near, score + margin + rough, own)
        few, image, clusters = _of_few(image, clusters, tf.size(own), most)
        exact = _distances(pixels, tf.gather(overlap, image), clusters, weights, bias)
        nearest, best, second = _lowest_two(exact, clusters, image, score, own)
        lower = _at_least(norm, tf.minimum(others - rough, second - margin))
        found = Bounds(nearest, _at_most(norm, best + margin), tf.where(few, lower, 0.0))
        sizes = tf.cast(tf.stack([tf.size(overlap), tf.size(image)]), tf.float32)
        return [*_updated(bounds, overlap, found), sizes]

    dtypes = [tf.int64, tf.float32, tf.float32, tf.float32]
    size = min(block_rows(screen), images_per_block(images.shape[1]))
    *found, sizes = by_rows(block, tf.size(doubt), size, dtypes)
    sizes = tf.reduce_sum(tf.cast(tf.reshape(sizes, [-1, 2]), tf.float64), axis=0)
    return Bounds(*found), sizes[0], sizes[1] / most


def _of_few(
    image: tf.Tensor, clusters: tf.Tensor, count: tf.Tensor, most: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which of `count` images have at most `most` rivals, bool [count]; their pairs, int64 [p]."""
    rivals = tf.math.unsorted_segment_sum(tf.ones_like(image, tf.float32), image, count)
    few = rivals <= most
    kept = tf.where(tf.gather(few, image))[:, 0]
    return few, tf.gather(image, kept), tf.gather(clusters, kept)


def _bordered(screen: Screen) -> Screen:
    """With centroids that are never near, so that groups are whole."""
    num_clusters, width = screen.weights.shape
    border = np.zeros((-num_clusters % GROUP, width), np.float32)
    border[:, -1] = np.inf
    return screen._replace(weights=tf.concat([screen.weights, border], axis=0))


def _distances(
    pixels: tf.Tensor, image: tf.Tensor, clusters: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Rounded ‖y − c‖² − ‖y‖² of pairs, images number `image` of pixels [m, d]; float32 [p].

    Args:
      image, clusters: int64 [p].
      weights: −2c / scale, float32 [k, d]; bias: ‖c‖², float32 [k].
    """

    def some(start, stop):
        rival = clusters[start:stop]
        product = tf.gather(pixels, image[start:stop]) * tf.gather(weights, rival)
        return [tf.reduce_sum(product, axis=1) + tf.gather(bias, rival)]

    (found,) = by_rows(some, tf.size(image), RIVALS, [tf.float32])
    return found


def _own_products(pixels: tf.Tensor, own: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Products of images [m, d] with the weights [k, d] of their clusters, ascending; [m].

    One of matrices: what lies between the first and the last cluster is little of all, or there
    are few images.
    """
    nowhere = tf.zeros([1], tf.int64)
    first = tf.concat([own, nowhere], 0)[0]
    last = tf.concat([nowhere, own], 0)[-1]
    products = tf.linalg.matmul(pixels, weights[first : last + 1], transpose_b=True)
    return tf.gather(products, own - first, batch_dims=1)


def _nearer(
    lower: tf.Tensor, limit: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which centroids other than the own may be as near as `limit`.

    Centroids are looked at in groups, most of which are too far away.

    Args:
      lower: bounds, float32 [m, k]; limit: float32 [m]; own: clusters, int64 [m].

    Returns:
      Images and clusters, int64 [p]; the lowest bound of the centroids that are too far, [m].
    """
    num_groups = lower.shape[1] // GROUP
    groups = tf.reshape(lower, [-1, GROUP])
    lowest = tf.reshape(tf.reduce_min(groups, axis=1), [-1, num_groups])
    is_near = lowest <= limit[:, None]
    places = tf.where(is_near)
    image, group = places[:, 0], places[:, 1]
    bounds = tf.gather(groups, num_groups * image + group)
    is_nearer = bounds <= tf.gather(limit, image)[:, None]
    infinite = np.float32(np.inf)
    far = tf.reduce_min(tf.where(is_nearer, infinite, bounds), axis=1)
    others = tf.minimum(
        tf.reduce_min(tf.where(is_near, infinite, lowest), axis=1),
        tf.math.unsorted_segment_min(far, image, tf.size(own)),
    )
    pairs = tf.where(is_nearer)
    image, group = tf.gather(image, pairs[:, 0]), tf.gather(group, pairs[:, 0])
    clusters = GROUP * group + pairs[:, 1]
    rivals = tf.where(clusters != tf.gather(own, image))[:, 0]
    return tf.gather(image, rivals), tf.gather(clusters, rivals), others


def _lowest_two(
    exact: tf.Tensor, clusters: tf.Tensor, image: tf.Tensor, upper: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The nearest of an image's own centroid and its rivals; equal ones leave no gap.

    Args:
      exact: distances float32 [p] to the centroids of `clusters` from images number `image`, int64.
      upper: distances float32 [m] to those of `own`, int64 [m].

    Returns:
      Cluster int64, lowest and second lowest distance float32, each [m].
    """
    count = tf.size(own)
    nearest = tf.math.unsorted_segment_min(exact, image, count)
    # One winner even of equal ones. No GPU finds the highest of integers.
    number = tf.range(tf.cast(tf.size(image), tf.float32))
    ties = tf.where(exact == tf.gather(nearest, image), number, -1.0)
    winner = tf.math.unsorted_segment_max(ties, image, count)
    rest = tf.where(number == tf.gather(winner, image), np.float32(np.inf), exact)
    second = tf.math.unsorted_segment_min(rest, image, count)
    moves = nearest < upper
    places = tf.where(moves)
    moved = tf.gather(clusters, tf.cast(tf.gather_nd(winner, places), tf.int64))
    return (
        tf.tensor_scatter_nd_update(own, places, moved),
        tf.minimum(nearest, upper),
        tf.minimum(second, tf.maximum(nearest, upper)),
    )

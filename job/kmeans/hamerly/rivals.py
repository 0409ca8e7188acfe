"""The third step for many centroids: the distances of an image in doubt to its rivals.

The screen bounds an image's distances to all centroids from below. Its rivals are the centroids
whose bound is not above the distance to the own one. Mostly they are few, and distances to them
cost less than scores of all centroids.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import by_rows, images_per_block, take
from job.kmeans.hamerly.bounds import Bounds, at_least, at_most, updated
from job.kmeans.hamerly.screen import (
    Screen,
    image_norms,
    infinitely_far,
    lower_bounds,
    screened_per_block,
)
from job.kmeans.hamerly.upkeep import IMAGE_COST
from job.kmeans.scores import Scorer, rounded_weights
from pipeline.shards.pixel_scale import Units

DISTANCE_COST = 40  # of a distance to a single centroid, in products with one column
RIVALS = 1024  # pairs of an image and a rival whose distances are computed at a time
GROUP = 32  # centroids of which only the lowest bound is looked at first


class _Products(NamedTuple):
    """What makes ‖y − c‖² − ‖y‖², rounded: pixels times weights plus the bias, over the scale.

    Attributes:
      weights: −2c, float32 [k, d], as wide as `stored` images.
      bias: scale · ‖c‖², float32 [k].
      scale: pixels per published unit, float32.
    """

    weights: tf.Tensor
    bias: tf.Tensor
    scale: np.floating


class _Own(NamedTuple):
    """What is known of images [m] and their own centroids.

    Attributes:
      clusters: int64.
      scores: rounded ‖y − c‖² − ‖y‖² of the own centroid, float32.
      norms: ‖y‖, float32.
      margins: two scores of an image that are closer than this may be in the wrong order, float32.
    """

    clusters: tf.Tensor
    scores: tf.Tensor
    norms: tf.Tensor
    margins: tf.Tensor


def compared(
    images: tf.Tensor,
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    before: Bounds,
    scorer: Scorer,
    screen: Screen,
    units: Units,
) -> tuple[Bounds, tf.Tensor, tf.Tensor]:
    """Assigns the images in `doubt` as far as distances to a few centroids can tell.

    Args:
      images: [n, d], as `stored`; rows: of the screen, float32 [n, d' + 2].
      squared_norm: pixels², float64 [n].
      doubt: rows of images, int64 [m]; before: their bounds, by cluster in ascending order.

    Returns:
      Their bounds, which still overlap where these distances did not decide; how many were
      screened; and what the distances to their rivals cost, as a number of images that could have
      been scored in full at that cost. The last two are float64.
    """
    (weights,), bias = rounded_weights(scorer, images)  # never halves: see `hamerly`
    products = _Products(weights, bias, np.float32(units.scale))
    margin = scorer.margin * np.array([1, 1 / units.scale], np.float32)
    # Distances to more rivals than this cost more than scores of all centroids.
    most = (scorer.centroids.shape[0] + IMAGE_COST) / DISTANCE_COST
    screen = _in_whole_groups(screen)

    def block(start, stop):
        index = doubt[start:stop]
        clusters, lower = before.clusters[start:stop], before.lower[start:stop]
        pixels = tf.cast(take(images, index), tf.float32)
        norms = image_norms(squared_norm, index, units)
        scores = _own_products(pixels, clusters, products)
        own = _Own(clusters, scores, norms, margin[0] * norms + margin[1])
        bounds = Bounds(clusters, at_most(norms, scores + own.margins), lower)

        overlap = tf.where(bounds.upper >= lower)[:, 0]
        own = _Own(*(tf.gather(part, overlap) for part in own))
        row = tf.gather(rows, tf.gather(index, overlap))
        found, num_pairs = _with_rivals(pixels, overlap, row, own, screen, products, most)
        sizes = tf.cast(tf.stack([tf.size(overlap), num_pairs]), tf.float32)
        return [*updated(bounds, overlap, found), sizes]

    dtypes = [tf.int64, tf.float32, tf.float32, tf.float32]
    size = min(screened_per_block(screen), images_per_block(images.shape[1]))
    *found, sizes = by_rows(block, tf.size(doubt), size, dtypes)
    sizes = tf.reduce_sum(tf.cast(tf.reshape(sizes, [-1, 2]), tf.float64), axis=0)
    return Bounds(*found), sizes[0], sizes[1] / most


def _with_rivals(
    pixels: tf.Tensor,
    places: tf.Tensor,
    row: tf.Tensor,
    own: _Own,
    screen: Screen,
    products: _Products,
    most: float,
) -> tuple[Bounds, tf.Tensor]:
    """Computes distances of images [m] to their rivals; returns their bounds, and how many pairs.

    Args:
      pixels: float32 [B, d], of which the images are those at `places`, int64 [m].
      row: of the screen, float32 [m, d' + 2].
      own: of the images.
      most: rivals an image may have; of one with more no distances are computed, and its bounds
        stay overlapping.
    """
    rough = screen.rounding[0] * own.norms + screen.rounding[1]
    near = lower_bounds(row, screen)
    image, clusters, others = _nearer(near, own.scores + own.margins + rough, own.clusters)
    few, image, clusters = _of_few(image, clusters, tf.size(own.clusters), most)
    scores = _scores_of_pairs(pixels, tf.gather(places, image), clusters, products)
    nearest, best, second = _lowest_two(scores, clusters, image, own)
    lower = at_least(own.norms, tf.minimum(others - rough, second - own.margins))
    upper = at_most(own.norms, best + own.margins)
    return Bounds(nearest, upper, tf.where(few, lower, 0.0)), tf.size(image)


def _in_whole_groups(screen: Screen) -> Screen:
    """Pads the screen with infinitely far centroids to a multiple of GROUP."""
    border = infinitely_far(-screen.weights.shape[0] % GROUP, screen)
    return screen._replace(weights=tf.concat([screen.weights, border], axis=0))


def _own_products(pixels: tf.Tensor, own: tf.Tensor, products: _Products) -> tf.Tensor:
    """Computes ‖y − c‖² − ‖y‖² of images [m, d] and their clusters `own`, ascending; rounded, [m].

    One product of matrices with all clusters from the first to the last of them: these are few of
    all clusters, or the images are few.
    """
    nowhere = tf.zeros([1], tf.int64)  # gives a block without images a first and a last cluster
    first = tf.concat([own, nowhere], 0)[0]
    last = tf.concat([nowhere, own], 0)[-1]
    found = tf.linalg.matmul(pixels, products.weights[first : last + 1], transpose_b=True)
    found = tf.gather(found, own - first, batch_dims=1)
    return (found + tf.gather(products.bias, own)) / products.scale


def _nearer(
    lower: tf.Tensor, limit: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the centroids, other than the own one, that may be as near as `limit`.

    Centroids are compared group by group, since most groups are too far as a whole.

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


def _of_few(
    image: tf.Tensor, clusters: tf.Tensor, count: tf.Tensor, most: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Keeps the pairs of the images with at most `most` rivals.

    Args:
      image, clusters: pairs of an image, of `count`, and a rival, int64 [p].

    Returns:
      Which images have so few, bool [count]; their pairs, as images and clusters, int64.
    """
    rivals = tf.math.unsorted_segment_sum(tf.ones_like(image, tf.float32), image, count)
    few = rivals <= most
    kept = tf.where(tf.gather(few, image))[:, 0]
    return few, tf.gather(image, kept), tf.gather(clusters, kept)


def _scores_of_pairs(
    pixels: tf.Tensor, image: tf.Tensor, clusters: tf.Tensor, products: _Products
) -> tf.Tensor:
    """Computes ‖y − c‖² − ‖y‖² of pairs, rounded; float32 [p].

    Args:
      pixels: float32 [m, d].
      image, clusters: rows of `pixels` and clusters, int64 [p].
    """

    def some(start, stop):
        rival = clusters[start:stop]
        product = tf.gather(pixels, image[start:stop]) * tf.gather(products.weights, rival)
        found = tf.reduce_sum(product, axis=1) + tf.gather(products.bias, rival)
        return [found / products.scale]

    (found,) = by_rows(some, tf.size(image), RIVALS, [tf.float32])
    return found


def _lowest_two(
    scores: tf.Tensor, clusters: tf.Tensor, image: tf.Tensor, own: _Own
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the nearest and the second nearest of an image's own centroid and its rivals.

    Of two equally near ones, one is the nearest and the other the second nearest: no gap is left.

    Args:
      scores: of the pairs, float32 [p].
      clusters, image: the pairs' clusters, and their rows in `own`, int64 [p].
      own: of images [m].

    Returns:
      Cluster int64, lowest and second lowest score float32, each [m].
    """
    count = tf.size(own.clusters)
    nearest = tf.math.unsorted_segment_min(scores, image, count)
    # Of equal scores the last pair wins. Pairs are numbered in float32, since TensorFlow has no GPU
    # kernel for the segment maximum of integers.
    number = tf.range(tf.cast(tf.size(image), tf.float32))
    ties = tf.where(scores == tf.gather(nearest, image), number, -1.0)
    winner = tf.math.unsorted_segment_max(ties, image, count)
    rest = tf.where(number == tf.gather(winner, image), np.float32(np.inf), scores)
    second = tf.math.unsorted_segment_min(rest, image, count)
    moves = nearest < own.scores
    places = tf.where(moves)
    new = tf.gather(clusters, tf.cast(tf.gather_nd(winner, places), tf.int64))
    return (
        tf.tensor_scatter_nd_update(own.clusters, places, new),
        tf.minimum(nearest, own.scores),
        tf.minimum(second, tf.maximum(nearest, own.scores)),
    )

"""Scores: which centroid is nearest to an image, decided fast in float32 and exactly where close.

An image is a row x of pixels, x / scale its published value (scale 255 for uint8, 1 for floats).
With centroids c in published units

    score(x, c) = scale · ‖c‖² − 2 x·c        ‖x / scale − c‖² = (‖x‖² / scale + score) / scale

so the nearest centroid has the lowest score. Scores are computed in float32 first. Two scores that
differ by less than a margin may be in the wrong order: such near-ties are decided exactly.

For uint8 images centroids lie on a binary grid, so fine that no published digit sees it and so
coarse that x·c is exact in float64, whatever the order of its additions. Distances of float32
images are sums of squared differences, added in a fixed order. So all numbers that decide something
are the same for every block shape and machine.

All functions here are pure, and know nothing of files, strategies or iterations.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import (
    between,
    by_block,
    by_rows,
    images_per_block,
    reader,
    take,
    widened,
)
from job.kmeans.decisions import TENSORFLOW, near_ones, nearest_exactly
from job.kmeans.halves import Halves, halves_of, in_halves, pays
from job.kmeans.lowest import LOWEST_TWO, lowest_two, nearest_two
from job.kmeans.pieces import Error, Pieces, fits, padded, pieces_of, products, rows_per_product
from job.kmeans.precision import FLOAT32_ROUNDING, Precision, pixel_factors
from pipeline.shards.decisions import doubts_of
from pipeline.shards.double_double import row_sums
from pipeline.shards.pixel_scale import Units, squared_norms, to_squared_distances

# The most that a product of float32 loses where it is too small for a float32.
FLOAT32_UNDERFLOW = 2.0**-125
SCORED_BYTES = 16 << 20  # of scores in float64 at a time, where float32 cannot tell


class Scorer(NamedTuple):
    """Centroids, and what it takes to score blocks of images against them.

    Attributes:
      centroids: float64 [k, d], published units.
      bias: scale · ‖c‖², float64 [k].
      margin: float32 [2]; two float32 scores of an image closer than
        margin[0] · ‖x‖ + margin[1] may be in the wrong order.
      doubts: how far scores in float64 may be off, float64 [2, k]: see `doubts_of`.
      pieces: what fast scores of bytes are products of, instead of float32 weights: small integers
        on a CPU, halves on a GPU; None: they are not.
    """

    centroids: np.ndarray
    bias: np.ndarray
    margin: np.ndarray
    doubts: np.ndarray
    pieces: Pieces | Halves | None = None


class Assignment(NamedTuple):
    """The nearest centroids of some images, and how much nearer they are than all others.

    Attributes:
      clusters: the nearest centroid, int64 [n]; of equally near ones the lowest.
      gaps: a lower bound of (distance to the second nearest − distance to the nearest), float32
        [n], published units; 0 where float32 could not tell them apart. Or one for each group of
        centroids, of which the nearest other is meant then; [n, G].
    """

    clusters: tf.Tensor
    gaps: tf.Tensor


def scorer_of(centroids: np.ndarray, units: Units, precision: Precision) -> Scorer:
    """Prepares centroids [k, d] (on the grid, published units) for scoring.

    Args:
      precision: of the products that the scores will be made of.
    """
    num_features = centroids.shape[1]
    squares = squared_norms(centroids, units)
    bias = units.scale * squares
    pieces: Pieces | Halves | None = None
    if units.step and fits(precision.largest_piece, num_features):
        pieces, error = pieces_of(centroids, bias, units.scale, precision.largest_piece)
    elif units.step and pays(precision):
        pieces = halves_of((-2.0 * centroids).astype(np.float32))
        error = _error_of_floats(squares, num_features, units, in_halves(precision))
    else:
        error = _error_of_floats(squares, num_features, units, precision)
    # Twice, since both scores that are compared may be off, and a little more for products of
    # errors.
    margin = np.array([2.02 * error.relative, 2.02 * error.absolute], np.float32)
    doubts = doubts_of(squares, units.scale, num_features)
    return Scorer(centroids, bias, margin, doubts, pieces)


def _error_of_floats(
    squares: np.ndarray, num_features: int, units: Units, precision: Precision
) -> Error:
    """Bounds the error of scores of float32 products with centroids of `squares` ‖c‖² [k]."""
    # d products, and the rounding of the weights −2c and of the sums of halves and with the bias.
    terms = num_features + 4
    relative = precision.of_product(terms, pixel_factors(units.step)) * 2 * np.sqrt(squares.max())
    absolute = 4 * FLOAT32_ROUNDING * units.scale * squares.max()  # no factor of the product
    return Error(float(relative), float(absolute + terms * FLOAT32_UNDERFLOW))


def nearest_centroids(
    images: tf.Tensor,
    squared_norm: tf.Tensor,
    scorer: Scorer,
    units: Units,
    rows: tf.Tensor | None = None,
    groups: tf.Tensor | None = None,
) -> Assignment:
    """Finds the nearest centroid of every image, or of those in `rows`.

    Args:
      images: uint8 or float32 [n, d], as `stored`.
      squared_norm: ‖x‖² in pixels², float64 [n].
      scorer: of the centroids.
      units: of the pixels.
      rows: int32 or int64 [m], ascending; None: all.
      groups: centroids of each group, int64 [G, s], k in empty places; each has two or more. None:
        all centroids are one group.
    """
    if rows is not None:
        squared_norm = tf.gather(squared_norm, rows)
    count = tf.size(squared_norm)
    if isinstance(scorer.pieces, Pieces):
        clusters, scores, others = _lowest_of_pieces(images, scorer.pieces, rows, count)
    else:
        clusters, scores, others = _lowest_of_floats(images, scorer, rows, count, groups)
    others = tf.reshape(others, [count, 1 if groups is None else groups.shape[0]])
    margin = margins_of(scorer, squared_norm)
    differences = others - (scores + margin)[:, None]
    gaps = gaps_of(squared_norm[:, None], (scores + margin)[:, None], differences, units)
    # Where another cluster may be decided for, no group's gap is known.
    gaps = tf.where(tf.reduce_all(gaps > 0, axis=1, keepdims=True), gaps, 0.0)
    near_tie = tf.where(gaps[:, 0] <= 0)[:, 0]
    clusters = _with_near_ties_decided(
        images, squared_norm, scorer, units, rows, clusters, near_tie
    )
    return Assignment(clusters, gaps[:, 0] if groups is None else gaps)


def margins_of(scorer: Scorer, squared_norm: tf.Tensor) -> tf.Tensor:
    """Computes how close scores of images may be in the wrong order; float32 [n]."""
    return scorer.margin[0] * tf.cast(tf.sqrt(squared_norm), tf.float32) + scorer.margin[1]


def _lowest_of_floats(
    images: tf.Tensor,
    scorer: Scorer,
    rows: tf.Tensor | None,
    count: tf.Tensor,
    groups: tf.Tensor | None,
) -> list[tf.Tensor]:
    """Finds the lowest of `count` images' scores, of float32 products, and the others of groups.

    Returns:
      Clusters [count], scores [count], the lowest other score of each group [count · G].
    """
    num_groups = 1 if groups is None else groups.shape[0]
    if num_groups == 1:
        weights, bias = rounded_weights(scorer, images)
    else:
        grouped, bias = grouped_weights(scorer, images, groups)
        weights = [grouped]

    read = reader(images, rows, count)

    def lowest(start, stop):
        part = tf.cast(read(start, stop), tf.float32)
        found = nearest_two(part, weights, bias, num_groups)
        if num_groups == 1:
            return found
        places, scores, others = found
        return tf.gather(tf.reshape(groups, [-1]), places), scores, tf.reshape(others, [-1])

    return by_block(lowest, count, images.shape[1], LOWEST_TWO)


def _lowest_of_pieces(
    images: tf.Tensor, pieces: Pieces, rows: tf.Tensor | None, count: tf.Tensor
) -> list[tf.Tensor]:
    """Finds the lowest two of the scores of `count` images, of products of bytes; each [count]."""
    index = None if rows is None else padded(rows)

    read = reader(images, index, count)

    def lowest(start, stop):
        clusters, scores, others = lowest_two(products(read(start, stop), pieces))
        return [clusters, scores * pieces.unit, others * pieces.unit]

    size = rows_per_product(tf.size(pieces.bias))
    found = by_rows(lowest, count if index is None else tf.size(index), size, LOWEST_TWO)
    return [part[:count] for part in found]


def _with_near_ties_decided(
    images: tf.Tensor,
    squared_norm: tf.Tensor,
    scorer: Scorer,
    units: Units,
    rows: tf.Tensor | None,
    clusters: tf.Tensor,
    near_tie: tf.Tensor,
) -> tf.Tensor:
    """Decides anew, exactly, the clusters of the images `near_tie`, int64 [m]; int64 [n]."""
    most = tf.maximum(SCORED_BYTES // (8 * tf.size(scorer.bias)), 1)
    size = tf.minimum(images_per_block(images.shape[1]), most)

    def decide(start, clusters):
        index = near_tie[start : start + size]
        pixels = tf.cast(
            take(images, index if rows is None else tf.gather(rows, index)), tf.float64
        )
        centroids = widened(scorer.centroids, images, 1)
        scores = exact_scores(pixels, centroids, scorer.bias)
        near = near_ones(scores, tf.sqrt(tf.gather(squared_norm, index)), scorer.doubts)
        decided = nearest_exactly(pixels, centroids, near, units.scale)
        return start + size, tf.tensor_scatter_nd_update(clusters, index[:, None], decided)

    # Without a near-tie, as in most passes, the loop does not run at all.
    _, clusters = tf.while_loop(
        lambda start, _: start < tf.size(near_tie), decide, (0, clusters), parallel_iterations=1
    )
    return clusters


def gaps_of(
    squared_norm: tf.Tensor, scores: tf.Tensor, differences: tf.Tensor, units: Units
) -> tf.Tensor:
    """Computes √(D + Δ) − √D: D is the squared distance of a score, Δ a difference of two scores.

    It is a lower bound if `scores` are upper bounds and `differences` lower bounds; float32, 0
    where the difference is none, or scores overflowed.
    """
    scale = tf.constant(units.scale, tf.float64)
    squared = tf.cast((squared_norm / scale + tf.cast(scores, tf.float64)) / scale, tf.float32)
    squared = tf.maximum(squared, 0.0)
    difference = tf.maximum(differences / np.float32(units.scale), 0.0)
    gaps = gap_of(squared, difference)
    return tf.where(gaps > 0, gaps, 0.0)  # scores that overflowed make NaN


def gap_of(squared: tf.Tensor, difference: tf.Tensor) -> tf.Tensor:
    """Computes √(squared + difference) − √squared, rounded down; float32."""
    slack = np.float32(1 - 2.0**-16)
    # Subtracting the roots would cancel; this quotient is the same number.
    root = tf.sqrt(squared + difference) + tf.sqrt(squared)
    return slack * tf.math.divide_no_nan(difference, root)


def rounded_weights(scorer: Scorer, images: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Makes −2c, as wide as the `stored` images, and the bias.

    Returns:
      Matrices whose sum is −2c, float32 [k, width]: one, or halves; the bias, float32 [k].
    """
    if isinstance(scorer.pieces, Halves):
        weights = [widened(half, images, 1) for half in scorer.pieces]
    elif images.dtype == tf.uint8:
        # The same: doubling is exact, and the grid is too coarse for numbers that float32 loses.
        weights = [widened(-2.0 * tf.cast(scorer.centroids, tf.float32), images, 1)]
    else:
        weights = [tf.cast(-2.0 * scorer.centroids, tf.float32)]
    return weights, tf.cast(scorer.bias, tf.float32)


def grouped_weights(
    scorer: Scorer, images: tf.Tensor, groups: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Arranges the `rounded_weights` by groups [G, s]: float32 [G s, width] and [G s].

    Empty places are infinitely far.
    """
    (weights,), bias = rounded_weights(scorer, images)  # of vectors, which have no halves
    members = tf.reshape(groups, [-1])
    weights = tf.gather(tf.pad(weights, [[0, 1], [0, 0]]), members)
    return weights, tf.gather(tf.pad(bias, [[0, 1]], constant_values=np.inf), members)


def exact_scores(images: tf.Tensor, centroids: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Scores images [B, d] with a Scorer's centroids [k, d] and bias [k]; float64 [B, k].

    The bits are the same for any block shape where the images are uint8.
    """
    # The images are doubled, not the centroids, which may be far more; the products are the same.
    images = -2.0 * tf.cast(images, tf.float64)
    return tf.linalg.matmul(images, centroids, transpose_b=True) + bias


def squared_distances(
    images: tf.Tensor, squared_norm: tf.Tensor, clusters: tf.Tensor, scorer: Scorer, units: Units
) -> tf.Tensor:
    """Computes the squared distance of every image to its cluster's centroid, published units².

    Args:
      images: [n, d], as `stored`; squared_norm: float64 [n], pixels²; clusters: int64 [n].

    Returns:
      float64 [n], the same bits for any block shape.
    """
    centroids = widened(scorer.centroids, images, 1)

    def own_score(start, stop):
        own = clusters[start:stop]
        rows = tf.cast(between(images, start, stop), tf.float64)
        product = tf.reduce_sum(rows * tf.gather(centroids, own), axis=1)
        return [-2.0 * product + tf.gather(scorer.bias, own)]

    def direct(start, stop):
        own = tf.gather(scorer.centroids, clusters[start:stop])
        rows = tf.cast(between(images, start, stop), tf.float64)
        return [row_sums(tf.math.squared_difference(rows, own), TENSORFLOW)]

    step = own_score if units.step else direct
    (found,) = by_block(step, tf.shape(images)[0], images.shape[1], [tf.float64])
    return to_squared_distances(found, squared_norm, units, tf.where) if units.step else found

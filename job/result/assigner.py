"""Finds the nearest published centroid of images, and how clearly it is the nearest."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans.decisions import TENSORFLOW, near_ones, nearest_exactly
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import exact_scores, lowest_two, scorer_of
from job.result.separation import silhouettes
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards import plan
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.decisions import doubts_of
from pipeline.shards.double_double import row_sums
from pipeline.shards.pixel_scale import (
    Units,
    middle_of,
    squared_norms,
    to_squared_distances,
    units_of,
)

# Of float64 pixels and scores at a time, so that neither grows with k or the block.
SCORED_BYTES = 16 << 20
# A difference that is a smaller share of what it was taken from has lost too many digits.
CANCELLED = 2.0**-16
# From so many centroids on, float32 products first tell which of them exact ones are needed of.
MANY_CENTROIDS = 1_000
PAIRS_OF_AN_IMAGE = 16  # with more of them than that on average, one product of all is cheaper
CACHED_BYTES = 4 << 20  # of centroids in float64


class Measured(NamedTuple):
    """Images with their nearest published centroid, and what the metrics need of each.

    Attributes:
      assigned: the images and their clusters.
      silhouettes: their simplified silhouettes, float64 [B].
      squared_norms: ‖x‖², pixels², float64 [B].
    """

    assigned: Assigned
    silhouettes: np.ndarray
    squared_norms: np.ndarray


def assigner_of(centroids: np.ndarray, dtype: str) -> Callable[[Block], Measured]:
    """Makes the quicker one of both assigners for centroids float32 [k, d]."""
    if dtype == "uint8" and 8 * centroids.size <= CACHED_BYTES:
        return CachedAssigner(centroids)
    return Assigner(centroids, dtype)


class CachedAssigner:
    """Does what `Assigner` does for images of bytes, with the same bits, in numpy.

    As long as the centroids stay in a core's cache, one thread of numpy takes half the time of all
    of TensorFlow's, which begin by making a graph.
    """

    def __init__(self, centroids: np.ndarray):
        """Takes centroids float32 [k, d] in published units."""
        model = Model("", centroids, centroids.shape[1:], "uint8")
        self._nearest = NearestCentroid(model, threads=None)

    def __call__(self, block: Block) -> Measured:
        """Assigns the images of `block`; of equally near centroids the lowest has the image."""
        found, second, norms = self._nearest.measure(block)
        own = np.sqrt(found.squared_distances)
        return Measured(found, silhouettes(own, np.sqrt(second)), norms)


class Assigner:
    """Finds the nearest published centroid of images, block by block, on one device.

    One product in float64 tells the nearest and the second nearest centroid and, for images of
    bytes, both distances: there it is exact. Float32 products, as iterations have them, would need
    a second one for the second nearest and float64 passes for both distances: no less work, and six
    times the time to trace it. Distances of float32 images are summed up from differences.
    """

    def __init__(self, centroids: np.ndarray, dtype: str):
        """Takes centroids float32 [k, d] in published units, and the dtype of the images."""
        num_clusters, num_features = centroids.shape
        units = units_of(np.dtype(dtype), num_features)
        # float32 values of 0 … 1 are on the grid: theirs is coarser, or they were on it before.
        wide = centroids.astype(np.float64)
        middle = middle_of(wide, units)
        is_far = middle.any()
        around = wide - middle if is_far else wide
        squares = squared_norms(around, units)
        # Tensors, which the graph refers to: it would hold arrays as constants of its own.
        exact, bias = tf.constant(wide), tf.constant(units.scale * squares)
        doubts = tf.constant(doubts_of(squares, units.scale, num_features))
        scores_of = _scores_of(wide, units, (tf.constant(around) if is_far else exact, bias))

        def distances(images: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:  # of float32 images
            differences = tf.math.squared_difference(images, tf.gather(exact, clusters))
            return row_sums(differences, TENSORFLOW)

        def nearest_two(images: tf.Tensor, norms: tf.Tensor) -> tuple[tf.Tensor, ...]:
            images = around_middle = tf.cast(images, tf.float64)
            if not units.step:
                around_middle = images - middle if is_far else images
                norms = tf.reduce_sum(tf.square(around_middle), axis=1)
            scores = scores_of(around_middle, norms)  # [B, k]
            near = near_ones(scores, tf.sqrt(norms), doubts)
            clusters = nearest_exactly(images, exact, near, units.scale)
            own = second = tf.gather(scores, clusters, batch_dims=1)
            others = clusters
            if num_clusters > 1:
                hidden = tf.one_hot(clusters, num_clusters, np.inf, 0.0, dtype=scores.dtype)
                second = tf.reduce_min(scores + hidden, axis=1)
                others = tf.argmin(scores + hidden, axis=1)
            own, second = (to_squared_distances(x, norms, units, tf.where) for x in (own, second))
            if not units.step:
                own = distances(images, clusters)
                lost = tf.where(second <= CANCELLED * norms)[:, 0]
                exactly = distances(tf.gather(images, lost), tf.gather(others, lost))
                second = tf.tensor_scatter_nd_update(second, lost[:, None], exactly)
            return tf.cast(clusters, tf.int32), own, second

        # One trace, whatever the number of images in a block.
        specs = [tf.TensorSpec([None, num_features], dtype), tf.TensorSpec([None], tf.float64)]
        graph = tf.function(nearest_two, input_signature=specs, autograph=False)
        self._nearest_two = graph.get_concrete_function()
        self._rows = max(1, SCORED_BYTES // (8 * sum(centroids.shape)))

    def __call__(self, block: Block) -> Measured:
        """Assigns the images of `block`; of equally near centroids the lowest has the image."""
        norms = squared_pixel_norms(block.pixels)
        spans = plan.spans(0, len(norms), self._rows)
        parts = [self._score(block.pixels[a:b], norms[a:b]) for a, b in spans]
        clusters, own, second = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = Assigned(block, clusters, own)
        return Measured(found, silhouettes(np.sqrt(own), np.sqrt(second)), norms)

    def _score(self, pixels: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, ...]:
        """Clusters int32 [n], and squared distances float64 [n] to the two nearest centroids."""
        found = self._nearest_two(tf.constant(pixels), tf.constant(norms))
        return tuple(tensor.numpy() for tensor in found)


def _scores_of(
    centroids: np.ndarray, units: Units, exact: tuple[tf.Tensor, tf.Tensor]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes what scores images float64 [B, d], with their ‖x‖² [B]; float64 [B, k].

    Args:
      centroids: float64 [k, d]; exact: the same as seen from the middle, and the bias [k].
    """
    # The margin is that of a CPU: a GPU may multiply in TF32, which rounds more.
    on_gpu = tf.config.list_logical_devices("GPU")
    if not units.step or len(centroids) < MANY_CENTROIDS or on_gpu:
        return lambda images, _: exact_scores(images, *exact)
    narrow = tf.cast(exact[0], tf.float32), tf.cast(exact[1], tf.float32)
    margin = scorer_of(centroids, units, FLOAT32).margin
    return functools.partial(_leading_scores, exact, narrow, margin)


def _leading_scores(
    exact: tuple[tf.Tensor, tf.Tensor],
    narrow: tuple[tf.Tensor, tf.Tensor],
    margin: np.ndarray,
    images: tf.Tensor,
    norms: tf.Tensor,
) -> tf.Tensor:
    """Scores images as `exact_scores` does, where a centroid may be among the nearest two.

    Products of float32 tell which may be, by the `margin` of a `Scorer`; mostly they are few.

    Args:
      exact: centroids [k, d] and bias [k], float64; narrow: both as float32.
      images: float64 [B, d], of bytes; norms: ‖x‖², float64 [B].

    Returns:
      float64 [B, k], infinite for all others.
    """
    doubled = -2.0 * tf.cast(images, tf.float32)
    rough = tf.linalg.matmul(doubled, narrow[0], transpose_b=True) + narrow[1]
    _, _, second = lowest_two(rough)
    limit = second + margin[0] * tf.cast(tf.sqrt(norms), tf.float32) + margin[1]
    pairs = tf.where(rough <= limit[:, None])  # [p, 2]

    def of_pairs() -> tf.Tensor:
        (centroids, bias), (rows, clusters) = exact, tf.unstack(pairs, axis=1)
        products = tf.reduce_sum(tf.gather(images, rows) * tf.gather(centroids, clusters), axis=1)
        found = tf.gather(bias, clusters) - 2.0 * products
        none = tf.fill(tf.shape(rough), tf.constant(np.inf, tf.float64))
        return tf.tensor_scatter_nd_update(none, pairs, found)

    few = tf.shape(pairs)[0] <= PAIRS_OF_AN_IMAGE * tf.shape(images)[0]
    return tf.cond(few, of_pairs, lambda: exact_scores(images, *exact))

"""Finds the nearest published centroid of images, and how clearly it is the nearest."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans.scores import exact_scores, first_lowest
from job.result.metrics import silhouettes
from pipeline.shards import plan
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.pixel_scale import squared_norms, to_squared_distances, units_of

# Of float64 pixels and scores at a time, so that neither grows with k or the block.
SCORED_BYTES = 16 << 20


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


class Assigner:
    """Finds the nearest published centroid of images, block by block, on one device.

    One product in float64 tells the nearest and the second nearest centroid and both distances;
    for images of bytes it is exact. Float32 products, as iterations have them, would need a second
    one for the second nearest and float64 passes for both distances: no less work, and six times
    the time to trace it.
    """

    def __init__(self, centroids: np.ndarray, dtype: str):
        """Takes centroids float32 [k, d] in published units, and the dtype of the images."""
        num_features = centroids.shape[1]
        units = units_of(np.dtype(dtype), num_features)
        # float32 values of 0 … 1 are on the grid: theirs is coarser, or they were on it before.
        wide = centroids.astype(np.float64)
        # Tensors, which the graph refers to: it would hold arrays as constants of its own.
        weights = tf.constant(-2.0 * wide)
        bias = tf.constant(units.scale * squared_norms(wide, units))

        def nearest_two(images: tf.Tensor, norms: tf.Tensor) -> tuple[tf.Tensor, ...]:
            scores = exact_scores(images, weights, bias)  # [B, k]
            clusters, lowest, second = _lowest_two(scores)
            own = to_squared_distances(lowest, norms, units, tf.where)
            return clusters, own, to_squared_distances(second, norms, units, tf.where)

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


def _lowest_two(scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Clusters int32 [B] of the lowest of scores [B, k], that score, and the lowest of the others.

    The last two are the same where k = 1.
    """
    clusters, lowest = first_lowest(scores), tf.reduce_min(scores, axis=1)
    second = lowest
    if scores.shape[1] > 1:
        hidden = tf.one_hot(clusters, scores.shape[1], np.inf, 0.0, dtype=scores.dtype)
        second = tf.reduce_min(scores + hidden, axis=1)
    return tf.cast(clusters, tf.int32), lowest, second

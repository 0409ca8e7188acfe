"""Which centroid is nearest to an image where scores in float32 cannot tell: within graphs."""

import numpy as np
import tensorflow as tf

from pipeline.shards.decisions import nearest_of
from pipeline.shards.double_double import Library

TENSORFLOW = Library(
    tf.concat,
    lambda values: tf.reduce_max(values, axis=1, keepdims=True),
    lambda values: tf.reduce_sum(values, axis=1, keepdims=True),
    tf.maximum,
    tf.add_n,
)


def near_ones(scores: tf.Tensor, norms: tf.Tensor, doubts: tf.Tensor) -> tf.Tensor:
    """Finds the centroids that may be the nearest of an image; bool [B, k].

    Args:
      scores: float64 [B, k]; norms: ‖x‖, float64 [B].
      doubts: of the scores, float64 [2, k]: see `doubts_of`.
    """
    margin = norms[:, None] * doubts[0] + doubts[1]
    return scores - margin <= tf.reduce_min(scores + margin, axis=1, keepdims=True)


def nearest_exactly(
    images: tf.Tensor, centroids: tf.Tensor, near: tf.Tensor, scale: float
) -> tf.Tensor:
    """Finds the nearest centroids of images, of equally near ones the lowest; int64 [B].

    Args:
      images: float64 [B, d]; centroids: float64 [k, d]; `scale` times these is in units of the
        images. All are exact.
      near: which centroids may be the nearest, bool [B, k].
    """
    numbers = tf.range(tf.cast(tf.shape(near)[1], tf.float64))
    only = tf.cast(tf.reduce_min(tf.where(near, numbers, np.inf), axis=1), tf.int64)
    # Few images have several, if any. NumPy compares them: the graph of as much arithmetic takes
    # longer to make than all of them take.
    decided = tf.cond(
        tf.math.count_nonzero(near) > tf.size(only, tf.int64),
        lambda: tf.numpy_function(nearest_of, [images, scale * centroids, near], tf.int64),
        lambda: only,
    )
    return tf.ensure_shape(decided, [None])

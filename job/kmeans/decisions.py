"""Which centroid is nearest where scores in float32 cannot tell.

Scores in float64 leave only the centroids that are equally near but for rounding. Of these the
squared distances are computed in double-double, straight from the differences. What is equal there
is taken for a tie, which the lowest cluster wins. So the answer does not depend on how products and
sums were rounded before, and ties are ties in every algorithm and on every machine.
"""

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import by_rows
from pipeline.shards.double_double import FLOAT64_ROUNDING, TIE, Library, squared_distance

TENSORFLOW = Library(
    tf.concat,
    lambda values: tf.reduce_max(values, axis=1, keepdims=True),
    lambda values: tf.reduce_sum(values, axis=1, keepdims=True),
    tf.maximum,
)
PAIR_BYTES = 2 << 20  # of the differences of pairs of an image and a centroid, at a time


def margins(norms: tf.Tensor, squares: tf.Tensor, scale: float, num_features: int) -> tf.Tensor:
    """Bounds how far scores, scale · ‖c‖² − 2 x·c in float64, may be off; float64 [B, k].

    Args:
      norms: ‖x‖, float64 [B]; squares: ‖c‖², float64 [k].
      num_features: d. Each of x and c may have been rounded to float64.
    """
    relative = 1.01 * (num_features + 8) * FLOAT64_ROUNDING
    return relative * (2 * norms[:, None] * tf.sqrt(squares) + scale * squares)


def nearest_exactly(
    images: tf.Tensor, centroids: tf.Tensor, scores: tf.Tensor, margin: tf.Tensor
) -> tf.Tensor:
    """Finds the nearest centroids of images, of equally near ones the lowest; int64 [B].

    Args:
      images: float64 [B, d]; centroids: float64 [k, d], in the same units: both exact.
      scores: the lower, the nearer; float64 [B, k].
      margin: how far scores may be off, float64 [B, k].
    """
    limit = tf.reduce_min(scores + margin, axis=1, keepdims=True)
    near = scores - margin <= limit
    clusters = tf.range(tf.cast(tf.shape(scores)[1], tf.float64))
    lowest = tf.reduce_min(tf.where(near, clusters, np.inf), axis=1)
    several = tf.math.count_nonzero(near, axis=1) > 1
    pairs = tf.where(near & several[:, None])
    decided = tf.cond(
        tf.size(pairs) > 0,
        lambda: tf.where(several, _nearest_of_pairs(images, centroids, pairs), lowest),
        lambda: lowest,
    )
    return tf.cast(decided, tf.int64)


def _nearest_of_pairs(images: tf.Tensor, centroids: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Finds the nearest of the centroids that each image is paired with.

    Args:
      pairs: rows of images and of centroids, int64 [p, 2].

    Returns:
      float64 [B]; without meaning for images in no pair.
    """
    image, cluster = pairs[:, 0], pairs[:, 1]
    count = tf.shape(images)[0]

    def distances(start, stop):
        rows = tf.gather(images, image[start:stop])
        others = tf.gather(centroids, cluster[start:stop])
        return [*(part[:, 0] for part in squared_distance(rows, others, TENSORFLOW))]

    rows = max(16, PAIR_BYTES // (8 * images.shape[1]))
    high, low = by_rows(distances, tf.size(image), rows, [tf.float64, tf.float64])
    # Subtracting nearly equal numbers is exact, so that the difference has the digits of `low`.
    least = tf.gather(tf.math.unsorted_segment_min(high, image, count), image)
    above = (high - least) + low
    lowest = tf.gather(tf.math.unsorted_segment_min(above, image, count), image)
    ties = above - lowest <= TIE * least
    candidates = tf.where(ties, tf.cast(cluster, tf.float64), np.inf)
    return tf.math.unsorted_segment_min(candidates, image, count)

"""k-means++: initial centroids that are far from each other, chosen one by one.

Arthur, Vassilvitskii: k-means++, the advantages of careful seeding (SODA 2007).
"""

import numpy as np
import tensorflow as tf

from job import hashing
from job.images.protocol import Images
from job.kmeans.blocks import between, by_block, by_rows, images_per_block, take, widened
from job.kmeans.decisions import TENSORFLOW
from job.kmeans.init import Seeding, random_images, too_few_distinct, weighed
from job.kmeans.pieces import fits, multiply, rows_per_product
from job.kmeans.precision import Precision, pixel_factors
from job.kmeans.scores import FLOAT32_UNDERFLOW
from pipeline.shards.double_double import row_sums


def initial_images(images: Images, seeding: Seeding) -> np.ndarray:
    """Chooses k images, each with probability proportional to D²; returns their pixels [k, d].

    D is the distance to the nearest image chosen before. The draw is an exponential race: the image
    with the smallest −ln(u)/D² wins with probability D²/Σ D².

    Raises:
      UserError: fewer distinct images than k.
    """
    k, seed, purpose, chosen = seeding.k, seeding.seed, seeding.purpose, seeding.chosen
    if not chosen:
        chosen.append(random_images(images, 1, seed, f"{purpose}/0")[0])
    approach = images.compile(_approach, images.precision)
    nearest = images.state(lambda count: np.full(count, np.inf))
    # After a resume, the distances to the images chosen before are computed again; the loop below
    # begins with those to the last one.
    for pixels in chosen[:-1] if len(chosen) < k else ():
        nearest, _ = approach(nearest, pixels)
    while len(chosen) < k:
        seeding.progress(len(chosen))
        nearest, _ = approach(nearest, chosen[-1])
        hashes = [hashing.hashes(part, seed, f"{purpose}/{len(chosen)}") for part in images.digests]
        squared = weighed(images, images.local(nearest))
        keys = [hashing.race(*pair) for pair in zip(hashes, squared, strict=True)]
        ((key, _, place),) = images.smallest([keys, hashes], 1)
        if key == np.inf:  # D² is 0 for all
            raise too_few_distinct(len(chosen), k)
        chosen.append(images.take([place])[0])
    seeding.progress(k)
    return np.stack(chosen)


def _approach(images, squared_norm, nearest, chosen, precision):
    """A step: keeps D² to the nearest chosen image, now that `chosen` [d] is one; no sums."""
    return nearest_of(images, squared_norm, nearest, chosen, precision), []


def nearest_of(
    images: tf.Tensor,
    squared_norm: tf.Tensor,
    nearest: tf.Tensor,
    other: tf.Tensor,
    precision: Precision,
) -> tf.Tensor:
    """Lowers the squared distances `nearest` of images to those to `other`, where that is nearer.

    Args:
      images: [n, d], as `stored`; squared_norm: float64 [n], pixels².
      nearest: pixels², float64 [n]; may be infinite.
      other: one of the images, [d].
      precision: of products.

    Returns:
      float64 [n], the same bits for any block shape; exact integers for uint8.
    """
    if images.dtype == tf.uint8:
        squared = _squared_distances_to(images, squared_norm, other, precision)
        return tf.minimum(nearest, squared)
    weights, norm = other[:, None], tf.reduce_sum(tf.square(tf.cast(other, tf.float64)))
    terms = images.shape[1] + 8
    relative = 1.01 * precision.of_product(terms, pixel_factors(0.0))

    def may_be_nearer(start, stop):
        product = tf.linalg.matmul(between(images, start, stop), weights)[:, 0]
        squared = squared_norm[start:stop]
        margin = 2 * relative * tf.sqrt(squared * norm) + 2.0**-40 * (squared + norm)
        lower = squared + norm - 2 * tf.cast(product, tf.float64) - margin
        return [lower - terms * FLOAT32_UNDERFLOW < nearest[start:stop]]

    (near,) = by_block(may_be_nearer, tf.size(nearest), images.shape[1], [tf.bool])
    rows = tf.where(near)[:, 0]
    wide = tf.cast(other, tf.float64)

    def direct(start, stop):
        part = tf.cast(take(images, rows[start:stop]), tf.float64)
        return [row_sums(tf.math.squared_difference(part, wide), TENSORFLOW)]

    (found,) = by_block(direct, tf.size(rows), images.shape[1], [tf.float64])
    return tf.tensor_scatter_nd_min(nearest, rows[:, None], found)


def _squared_distances_to(
    images: tf.Tensor, squared_norm: tf.Tensor, other: tf.Tensor, precision: Precision
) -> tf.Tensor:
    """Computes the squared distance of every image uint8 to `other` [d], one of them, in pixels².

    Args:
      images: [n, d], as `stored`; squared_norm: float64 [n], pixels².

    Returns:
      float64 [n], exact integers.
    """
    num_features = images.shape[1]
    # Products with the two halves of a byte, and their sums, have at most 24 bits: exact in
    # float32, at its full speed, in TF32, which keeps all 8 bits of either factor, and as integers.
    halves = 255 * 15 * num_features < 2**24
    integers = halves and fits(precision.largest_piece, num_features)
    dtype = tf.float32 if halves else tf.float64
    wide = tf.cast(other, dtype)
    factors = [16.0, 1.0] if halves else [1.0]
    columns = [tf.math.floordiv(wide, 16), tf.math.floormod(wide, 16)] if halves else [wide]
    matrix = widened(tf.stack(columns, axis=1), images, 0)  # [d, 2] or [d, 1]

    def product(start, stop):
        part = between(images, start, stop)
        if integers:
            parts = multiply(part, tf.cast(matrix, tf.int8), tf.zeros([2]), 1.0)
        else:
            parts = tf.linalg.matmul(tf.cast(part, dtype), matrix)
        return [tf.reduce_sum(tf.cast(parts, tf.float64) * factors, axis=1)]

    rows = rows_per_product(len(factors)) if integers else images_per_block(num_features)
    (products,) = by_rows(product, tf.shape(images)[0], rows, [tf.float64])
    norm = tf.reduce_sum(tf.square(tf.cast(other, tf.float64)))
    return squared_norm - 2 * products + norm

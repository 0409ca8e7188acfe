"""A screen: images and centroids in the few dimensions in which the centroids lie.

With V [d, d'] of orthonormal columns, y an image, c_j the centroids, z = Vᵀy, r what V leaves of y,
and e_j what it leaves of c_j,

    ‖y − c_j‖² − ‖y‖² = ‖c_j‖² − 2 z·z_j − 2 r·e_j,    |r·e_j| ≤ ‖r‖ ‖e_j‖

which bounds the distance to every centroid by a product of d' + 2 columns: an image's row is z, ‖r‖
and 1 (compare block vectors: Bottesch, Bühler, Kächele, ICML 2016). Every bound carries a margin
for float32.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import between, fill_rows, widened
from job.kmeans.precision import FLOAT32_ROUNDING
from job.kmeans.scores import Scorer
from pipeline.shards.pixel_scale import Units

# How many of a replica's images the leading directions are those of.
SAMPLE_IMAGES = 2048
SUBSPACE_ITERATIONS = 3
SCREEN_BYTES = 4 << 20


class Basis(NamedTuple):
    """How images are projected.

    Attributes:
      columns: orthonormal, float32 [d, d'].
      gram: VᵀV, the identity but for rounding, float64 [d', d'].
      spread: a bound of ‖|V|‖₂, by which rounding in a projection may grow.
    """

    columns: tf.Tensor
    gram: tf.Tensor
    spread: tf.Tensor


class Screen(NamedTuple):
    """The centroids as the screen needs them.

    Attributes:
      weights: float32 [k, d' + 2]; with an image's row they give a lower bound of
        ‖y − c_j‖² − ‖y‖².
      widths: 4 ‖e_j‖, float32 [k]; times ‖r‖ it makes an upper bound of the lower one.
      rounding: float32 [2]: relative to ‖y‖, and absolute.
    """

    weights: tf.Tensor
    widths: tf.Tensor
    rounding: tf.Tensor


def basis_of(
    centroids: tf.Tensor, before: tf.Tensor, start: tf.Tensor, directions: tf.Tensor
) -> Basis:
    """The leading directions of centroids [k, d] and of how they just moved, then of images.

    Subspace iteration from `start` [d, d'], then what it leaves of `directions` [d, d']: any
    orthonormal columns are right, leading ones are useful. In TensorFlow, whose threads and those
    of another library would wait for each other; on the host, where its QR decomposition takes and
    leaves its matrices even on a GPU.
    """
    with tf.device("CPU:0"):
        moves = tf.concat([centroids, centroids - before], axis=0)  # [2k, d]
        columns = start.shape[1]
        v = start[:, : min(columns, moves.shape[0])]
        for _ in range(SUBSPACE_ITERATIONS):
            v, _ = tf.linalg.qr(tf.matmul(moves, tf.matmul(moves, v), transpose_a=True))
        if rest := columns - v.shape[1]:
            left = directions - tf.matmul(v, tf.matmul(v, directions, transpose_a=True))
            _, rotation = tf.linalg.eigh(tf.matmul(left, left, transpose_a=True))  # ascending
            v, _ = tf.linalg.qr(tf.concat([v, tf.matmul(left, rotation[:, -rest:])], axis=1))
        v = tf.cast(v, tf.float32)
        wide = tf.cast(v, tf.float64)
        # ‖|V|‖₂² ≤ ‖|V|‖₁ ‖|V|‖∞
        sums = [tf.reduce_max(tf.reduce_sum(tf.abs(v), axis)) for axis in (0, 1)]
        return Basis(v, tf.matmul(wide, wide, transpose_a=True), tf.sqrt(sums[0] * sums[1]))


def screen_of(scorer: Scorer, basis: Basis, units: Units) -> Screen:
    """What a screen in `basis` needs of the centroids."""
    d, columns = basis.columns.shape
    z = tf.matmul(scorer.centroids, tf.cast(basis.columns, tf.float64))
    squares = scorer.bias / units.scale
    # ‖c − Vz‖², and some rounding.
    rest = squares + tf.reduce_sum(z * (tf.matmul(z, basis.gram) - 2 * z), axis=1)
    rho = tf.sqrt(tf.maximum(rest, 0.0) + 2.0**-40 * squares)
    # The rounding of z (a product over d) and of the screen's own product, for two of its values.
    gamma = 1.01 * FLOAT32_ROUNDING
    largest = tf.sqrt(tf.reduce_max(squares))
    of_z = 4 * gamma * (d + 4) * tf.cast(basis.spread, tf.float64) * largest
    of_product = 4 * gamma * (columns + 5) * (largest + tf.reduce_max(rho))
    absolute = 4 * gamma * (columns + 8) * tf.reduce_max(squares)
    return Screen(
        tf.cast(tf.concat([-2 * z, -2 * rho[:, None], squares[:, None]], axis=1), tf.float32),
        tf.cast(4 * rho, tf.float32),
        tf.cast(tf.stack([of_z + of_product, absolute]), tf.float32),
    )


def leading(images: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Columns float64 [d, d'] in which the leading directions of a sample of the images weigh most.

    One step of subspace iteration from `probes` [d, d'].
    """
    sample = tf.cast(images[:SAMPLE_IMAGES], tf.float32)
    sample -= tf.math.divide_no_nan(
        tf.reduce_sum(sample, axis=0), tf.cast(tf.shape(sample)[0], tf.float32)
    )
    seen = tf.linalg.matmul(sample, widened(probes, images, 0))
    found = tf.linalg.matmul(sample, seen, transpose_a=True)[: probes.shape[0]]
    return tf.cast(found, tf.float64)


def project(images, squared_norm, _, basis, units):
    """The rows of the screen, for a new basis."""
    matrix = widened(basis.columns / np.float32(units.scale), images, 0)

    def rows(start, stop):
        pixels = tf.cast(between(images, start, stop), tf.float32)
        z = tf.linalg.matmul(pixels, matrix)  # [B, d']
        norm = tf.cast(squared_norm[start:stop] / units.scale**2, tf.float32)
        # ‖r‖² from above: the rounding of a difference of numbers as large as these.
        slack = 4 * FLOAT32_ROUNDING * (images.shape[1] + 8) * norm
        rest = tf.sqrt(tf.maximum(norm - tf.reduce_sum(tf.square(z), axis=1), 0.0) + slack)
        return tf.concat([z, rest[:, None], tf.ones_like(rest)[:, None]], axis=1)

    width = basis.columns.shape[1] + 2
    return fill_rows(rows, tf.size(squared_norm), images.shape[1], width), []


def block_rows(screen: Screen) -> int:
    """How many images are screened at a time."""
    return int(np.clip(SCREEN_BYTES // (4 * max(screen.weights.shape)), 256, 16_384))


def lower_bounds(row: tf.Tensor, screen: Screen) -> tf.Tensor:
    """Lower bounds of ‖y − c_j‖² − ‖y‖² for rows of a screen; float32 [B, k]."""
    return tf.linalg.matmul(row, screen.weights, transpose_b=True)


def norms(squared_norm: tf.Tensor, index: tf.Tensor, units: Units) -> tf.Tensor:
    """‖y‖ of the images in `index`, float32."""
    return tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)

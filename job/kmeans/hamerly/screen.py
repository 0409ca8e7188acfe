"""A screen: images and centroids in the few dimensions in which the centroids lie.

With V [d, d'] of orthonormal columns, y an image, c_j the centroids, z = Vᵀy, r what V leaves of y,
and e_j what it leaves of c_j,

    ‖y − c_j‖² − ‖y‖² = ‖c_j‖² − 2 z·z_j − 2 r·e_j,    |r·e_j| ≤ ‖r‖ ‖e_j‖

which bounds the distance to every centroid by a product of d' + 2 columns: an image's row is z, ‖r‖
and 1 (compare the block vectors of Bottesch, Bühler, Kächele: Speeding up k-means by approximating
Euclidean distances via block vectors, ICML 2016). Every bound carries a margin for how products of
float32 round.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import between, fill_rows, widened
from job.kmeans.precision import FLOAT32_ROUNDING, Precision, pixel_factors
from job.kmeans.scores import Scorer
from pipeline.shards.pixel_scale import Units

# From so many images of a replica its leading directions are computed.
SAMPLE_IMAGES = 2048
SUBSPACE_ITERATIONS = 3
SCREEN_BYTES = 4 << 20  # of the bounds [B, k] of a block
# A little more than 1, for products of rounding errors, which `of_product` leaves out.
HIGHER_ORDERS = 1.01


class Basis(NamedTuple):
    """The basis of the few dimensions that images and centroids are projected into.

    Attributes:
      columns: V, orthonormal, float32 [d, d'].
      gram: VᵀV, the identity but for rounding, float64 [d', d'].
      spread: a bound of ‖|V|‖₂, the factor by which a projection may enlarge rounding errors.
    """

    columns: tf.Tensor
    gram: tf.Tensor
    spread: tf.Tensor


class Screen(NamedTuple):
    """The centroids, projected into a basis.

    Attributes:
      weights: float32 [k, d' + 2]; their product with an image's row is a lower bound of
        ‖y − c_j‖² − ‖y‖².
      widths: 4 ‖e_j‖, float32 [k]; times ‖r‖ it is how far an upper bound is above the lower one.
      rounding: float32 [2]; bounds may be off by rounding[0] · ‖y‖ + rounding[1].
    """

    weights: tf.Tensor
    widths: tf.Tensor
    rounding: tf.Tensor


def basis_of(
    centroids: tf.Tensor, before: tf.Tensor, start: tf.Tensor, directions: tf.Tensor
) -> Basis:
    """Finds leading directions of centroids [k, d] and of how they just moved, then of images.

    Bounds hold for any orthonormal columns, and are tight for leading ones. They are computed by
    TensorFlow, since NumPy's threads would compete with TensorFlow's for the cores, and on the
    host, since even the QR decomposition of a GPU exchanges its matrices with the host.

    Args:
      before: the centroids before they moved, [k, d].
      start: what subspace iterations begin with, [d, d'].
      directions: leading directions of images, [d, d'], for the columns that centroids leave free.
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


def screen_of(scorer: Scorer, basis: Basis, units: Units, precision: Precision) -> Screen:
    """Projects the centroids into `basis`."""
    d, columns = basis.columns.shape
    z = tf.matmul(scorer.centroids, tf.cast(basis.columns, tf.float64))
    squares = scorer.bias / units.scale
    # ‖c − Vz‖², rounded up.
    rest = squares + tf.reduce_sum(z * (tf.matmul(z, basis.gram) - 2 * z), axis=1)
    rho = tf.sqrt(tf.maximum(rest, 0.0) + 2.0**-40 * squares)
    # Two products round: z, a product with pixels, and the screen's own, of two float32 factors.
    # Each counts four times: for the factor −2, and for both of two values that are compared.
    in_z = 4 * HIGHER_ORDERS * precision.of_product(d + 4, pixel_factors(units.step))
    in_product = 4 * HIGHER_ORDERS * precision.of_product(columns + 8, 2)
    largest = tf.sqrt(tf.reduce_max(squares))
    relative = in_z * tf.cast(basis.spread, tf.float64) * largest
    relative += in_product * (largest + tf.reduce_max(rho))
    absolute = in_product * tf.reduce_max(squares)
    return Screen(
        tf.cast(tf.concat([-2 * z, -2 * rho[:, None], squares[:, None]], axis=1), tf.float32),
        tf.cast(4 * rho, tf.float32),
        tf.cast(tf.stack([relative, absolute]), tf.float32),
    )


def leading(images: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Finds directions of the images: one step of subspace iteration on a sample of them.

    Args:
      images: [n, d], as `stored`.
      probes: random directions, float32 [d, d'].

    Returns:
      float64 [d, d'], not orthonormal: the leading directions weigh most in them.
    """
    sample = tf.cast(images[:SAMPLE_IMAGES], tf.float32)
    sample -= tf.math.divide_no_nan(
        tf.reduce_sum(sample, axis=0), tf.cast(tf.shape(sample)[0], tf.float32)
    )
    seen = tf.linalg.matmul(sample, widened(probes, images, 0))
    found = tf.linalg.matmul(sample, seen, transpose_a=True)[: probes.shape[0]]
    return tf.cast(found, tf.float64)


def project(images, squared_norm, _, basis, units, precision):
    """A step: projects images into `basis`; its state is the rows of the screen, without sums."""
    matrix = widened(basis.columns / np.float32(units.scale), images, 0)
    terms = images.shape[1] + 8
    # ‖r‖² = ‖y‖² − ‖z‖² has to be rounded up, by a share of ‖y‖²: an error of z counts twice in
    # ‖z‖²; the other sums, and V, which is only nearly orthonormal, are rounded to float32.
    of_z = 2 * HIGHER_ORDERS * precision.of_product(terms, pixel_factors(units.step))
    slack = np.float32(of_z) * basis.spread + np.float32(2 * FLOAT32_ROUNDING * terms)

    def rows(start, stop):
        pixels = tf.cast(between(images, start, stop), tf.float32)
        z = tf.linalg.matmul(pixels, matrix)  # [B, d']
        norm = tf.cast(squared_norm[start:stop] / units.scale**2, tf.float32)
        left = tf.maximum(norm - tf.reduce_sum(tf.square(z), axis=1), 0.0)
        rest = tf.sqrt(left + slack * norm)
        return tf.concat([z, rest[:, None], tf.ones_like(rest)[:, None]], axis=1)

    width = basis.columns.shape[1] + 2
    return fill_rows(rows, tf.size(squared_norm), images.shape[1], width), []


def screened_per_block(screen: Screen) -> int:
    """Returns how many images are screened at a time, so that their bounds stay in the cache."""
    return int(np.clip(SCREEN_BYTES // (4 * max(screen.weights.shape)), 256, 16_384))


def infinitely_far(count: int, screen: Screen) -> np.ndarray:
    """Makes weights of centroids that are infinitely far from every image; [count, d' + 2]."""
    weights = np.zeros((count, screen.weights.shape[1]), np.float32)
    weights[:, -1] = np.inf
    return weights


def lower_bounds(row: tf.Tensor, screen: Screen) -> tf.Tensor:
    """Computes lower bounds of ‖y − c_j‖² − ‖y‖² for rows of a screen; float32 [B, k]."""
    return tf.linalg.matmul(row, screen.weights, transpose_b=True)


def image_norms(squared_norm: tf.Tensor, index: tf.Tensor, units: Units) -> tf.Tensor:
    """Returns ‖y‖ of the images in `index`, float32."""
    return tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)

"""Scores from products of bytes: centroids as sums of small integers, where a CPU multiplies these.

For images of bytes x and a centroid C, both in pixels,

    C = u (h + l / r) + e        x·C = u (x·h + x·l / r) + x·e

where the pieces h and l are int8 and e, the rest, is known. Products of bytes are exact integers,
so that x·C is known up to ‖x‖ ‖e‖, about as well as from float32 products; and CPUs with
instructions for it (VNNI, AMX) make them several times as fast, from pixels that nobody has to
cast.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import row_width
from job.kmeans.precision import FLOAT32_ROUNDING
from pipeline.shards.pixel_scale import by_parts

LARGEST_PIECE = 127  # of int8, where pieces have either sign
# Images of more pixels than this might overflow the int32 sums of their products.
MOST_FEATURES = (2**31 - 1) // (255 * LARGEST_PIECE)
# Roundings of a score: of both products, of the bias, of their sums and of the unit.
ROUNDINGS = 8
# oneDNN makes a kernel for each number of rows, which takes some ms: so there are only few.
ROWS = 256
MOST_ROWS, PRODUCT_BYTES = 8_192, 16 << 20
# Two products of bytes replace one of float32, for which pixels have to be cast.
LEAST_SPEED = 2


class Pieces(NamedTuple):
    """Centroids in pieces, and what makes scores of their products with images [B, width].

    Attributes:
      high, low: −h and −l, int8 [width, k].
      bias: ‖C‖² / 2u, float32 [k].
      fraction: 1 / r, float32.
      unit: what to multiply bias − x·h − x·l / r by to get scores, float32.
    """

    high: np.ndarray
    low: np.ndarray
    bias: np.ndarray
    fraction: np.floating
    unit: np.floating


class Error(NamedTuple):
    """How far scores of an image x may be off: relative · ‖x‖ + absolute, ‖x‖ in pixels."""

    relative: float
    absolute: float


def pieces_of(
    centroids: np.ndarray, bias: np.ndarray, scale: float, largest: int
) -> tuple[Pieces, Error]:
    """Cuts centroids into pieces of at most `largest`.

    Args:
      centroids: float64 [k, d], published units.
      bias: of their scores, float64 [k].
      scale: pixels per published unit.
    """
    extremes = float(centroids.max()), -float(centroids.min())
    unit = max(scale * max(extremes), 1.0) / largest
    parts = 2 * (largest + 1)  # r: |l| is at most a half of it
    width = row_width(centroids.shape[1], np.dtype(np.uint8))
    columns = np.zeros((2, width, len(centroids)), np.int8)  # as wide as `stored` images
    done = 0

    def cut(part: np.ndarray) -> np.ndarray:
        """Fills columns; returns the norms of what is left of each centroid, and of its pieces."""
        nonlocal done
        pixels = part * scale
        high = np.rint(pixels / unit)
        rest = pixels - unit * high
        low = np.clip(np.rint(rest * (parts / unit)), -largest, largest)
        rest -= low * (unit / parts)
        own = slice(done, done := done + len(part))
        for column, piece in zip(columns, (high, low), strict=True):
            column[: part.shape[1], own] = -piece.T
        return np.stack([_norms(rest), unit * (_norms(high) + _norms(low) / parts)], axis=1)

    rests, sizes = by_parts(cut, centroids).T
    per_pixel = 2 / scale
    relative = per_pixel * (rests + ROUNDINGS * FLOAT32_ROUNDING * sizes)
    pieces = Pieces(
        columns[0],
        columns[1],
        (bias / (per_pixel * unit)).astype(np.float32),
        np.float32(1 / parts),
        np.float32(per_pixel * unit),
    )
    absolute = ROUNDINGS * FLOAT32_ROUNDING * bias.max()
    return pieces, Error(float(relative.max()), float(absolute))


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("kd,kd->k", rows, rows))


def fits(largest: int, num_features: int) -> bool:
    """Tells whether images of so many pixels can be multiplied by pieces of at most `largest`."""
    return largest > 0 and num_features <= MOST_FEATURES


def products(images: tf.Tensor, pieces: Pieces) -> tf.Tensor:
    """Computes the scores of images uint8 [B, width], in units of `pieces.unit`; float32 [B, k]."""
    scores = multiply(images, pieces.high, pieces.bias, 1.0)
    return scores + multiply(images, pieces.low, tf.zeros_like(pieces.bias), pieces.fraction)


def multiply(
    images: tf.Tensor, piece: tf.Tensor, bias: tf.Tensor, fraction: tf.Tensor | float
) -> tf.Tensor:
    """Computes bias + fraction · images · piece, each rounded to float32; float32 [B, k].

    Args:
      images: uint8 [B, width]; piece: int8 [width, k], not below −LARGEST_PIECE.
      bias: float32 [k].
      fraction: a power of two.
    """
    # The ranges say what the integers stand for: here themselves, but for the fraction.
    return tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
        a=tf.bitcast(images, tf.quint8),
        b=tf.bitcast(piece, tf.qint8),
        bias=bias,
        min_a=0.0,
        max_a=255.0 * fraction,
        min_b=-127.0,
        max_b=127.0,
        min_freezed_output=0.0,
        max_freezed_output=1.0,
        Toutput=tf.float32,
        input_quant_mode="SCALED",
    )


def rows_per_product(num_columns: tf.Tensor | int) -> tf.Tensor:
    """Returns how many images are multiplied at a time, by pieces of so many columns; int32."""
    return tf.clip_by_value(PRODUCT_BYTES // (4 * num_columns), ROWS, MOST_ROWS) // ROWS * ROWS


def padded(rows: tf.Tensor) -> tf.Tensor:
    """Adds zeros to `rows` [m], up to a multiple of ROWS."""
    return tf.pad(rows, [[0, tf.math.floormod(-tf.size(rows), ROWS)]])


@functools.cache
def byte_products() -> tuple[int, int]:
    """Finds which products of bytes this process computes exactly, and fast.

    Returns:
      The largest pieces, and how many times as fast they are multiplied as float32, rounded.
      0 and 0: none are worth it.
    """
    try:
        with tf.device("CPU:0"):
            speed = _speed() if is_exact(LARGEST_PIECE) else 0
    except tf.errors.OpError:  # TensorFlow has no kernel for this CPU
        speed = 0
    return (LARGEST_PIECE, speed) if speed >= LEAST_SPEED else (0, 0)


def is_exact(largest: int) -> bool:
    """Tells whether products with pieces of at most `largest` are exact in this process.

    It multiplies the worst values, and others after them.

    Without VNNI sums of two products saturate in silence, and a kernel may keep weights that it has
    seen before.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ROWS, 512), dtype=np.uint8)
    images[::2] = 255
    worst = np.full((512, 8), largest, np.int8)
    worst[:, 1], worst[::2, 2], worst[: len(worst) // 2, 3] = (-largest,) * 3
    others = rng.integers(-largest, largest + 1, worst.shape).astype(np.int8)
    for piece, bias in ((worst, np.arange(8)), (others, 1000.5 * np.arange(8))):
        bias = bias.astype(np.float32)
        for fraction in (1.0, 2.0**-8):
            found = multiply(images, piece, bias, np.float32(fraction)).numpy()
            # In integers: threads of BLAS would wait for TensorFlow's.
            product = fraction * (images.astype(np.int32) @ piece)
            most = ROUNDINGS / 2 * FLOAT32_ROUNDING * (np.abs(product) + bias)
            # Where TensorFlow has no kernel for this CPU, it may also return an empty matrix.
            if found.shape != product.shape or (np.abs(found - (product + bias)) > most).any():
                return False
    return True


def _speed() -> int:
    """Measures how many times as fast a product of bytes is as one of float32, rounded."""
    images, piece = tf.ones((2048, 768), tf.uint8), tf.ones((768, 256), tf.int8)
    floats = [tf.cast(factor, tf.float32) for factor in (images, piece)]
    bias = np.zeros(256, np.float32)
    quick = _least_seconds(lambda: multiply(images, piece, bias, 1.0))
    return round(_least_seconds(lambda: tf.linalg.matmul(*floats)) / quick)


def _least_seconds(product: Callable[[], tf.Tensor]) -> float:
    """Times a product and returns the shortest of several times.

    A machine may be busy, and the first ones take longer.
    """
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

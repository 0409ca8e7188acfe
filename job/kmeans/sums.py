"""Cluster sums: pixels and images added up by cluster, and the means and inertia they give.

All sums are exact integers: of the pixels for uint8 images; for float32 images of the parts that
each pixel is cut into, multiples of `Units.quanta` (compare Demmel and Nguyen: Fast reproducible
floating-point summation, ARITH 2013). So it does not matter in which order images, blocks, replicas
and workers are added.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import aligned_empty, images_per_block, take
from pipeline.shards.pixel_scale import Units, by_parts, on_grid, squared_norms

# A difference that is a smaller share of what it was taken from has lost the 9th digit.
MOST_CANCELLED = 1e-5
# Up to so many images, sums of uint8 pixels stay below 2²⁴ and are exact in float32.
MAX_EXACT_IMAGES = 65_793
# Of these and larger quanta, float32 holds the inverse, and the multiples that pixels consist of.
LEAST_QUANTUM = 2.0**-120


class ClusterSums(NamedTuple):
    """Pixel sums and image counts by cluster, exact integers.

    Attributes:
      sums: float64 [k, W d], in pixels: of all columns the sums of the parts that are multiples of
        the first of W quanta, then of those of the second, … For uint8 images W = 1.
      counts: int64 [k].
    """

    sums: np.ndarray
    counts: np.ndarray

    def merge(self, other: "ClusterSums") -> "ClusterSums":
        """Adds the sums of other images: associative and commutative."""
        return ClusterSums(self.sums + other.sums, self.counts + other.counts)

    @classmethod
    def zero(cls, num_clusters: int, num_features: int) -> "ClusterSums":
        """Makes the sums of no image."""
        return cls(np.zeros((num_clusters, num_features)), np.zeros(num_clusters, np.int64))


class Change(NamedTuple):
    """What an assignment changes.

    Attributes:
      sums: the new cluster sums, less those of the assignment before.
      changed: how many images changed cluster.
    """

    sums: ClusterSums
    changed: int


def change_of(totals: list[np.ndarray]) -> Change:
    """Makes a Change of what `moved_sums` returns, added over all replicas."""
    sums, counts, changed = totals
    return Change(ClusterSums(sums, np.rint(counts).astype(np.int64)), int(changed))


def pixel_sums(total: ClusterSums, units: Units) -> np.ndarray:
    """Puts the sums of all quanta together, float64 [k, d], in pixels; each rounded a few times."""
    if not units.quanta:
        return total.sums
    *parts, last = np.split(total.sums, len(units.quanta), axis=1)
    for part in reversed(parts):  # the small ones first
        last = last + part
    return last


def means(total: ClusterSums, units: Units) -> np.ndarray:
    """Computes the clusters' means, float64 [k, d], on the grid; 0 for empty clusters."""

    def of_some(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        pixels = pixel_sums(ClusterSums(sums, counts), units)
        return on_grid(pixels / (units.scale * np.maximum(counts, 1)), units)

    num_clusters, width = total.sums.shape
    shape = (num_clusters, width // len(units.quanta or (1,)))
    out = aligned_empty(shape, "float64")  # of which TensorFlow needs no copy
    return by_parts(of_some, total.sums, total.counts[:, None], out=out)


def inertia_of_means(squared_norm_total: float, total: ClusterSums, units: Units) -> float | None:
    """Computes Σ squared distances to the clusters' means, Σ‖x‖² − Σ‖S‖² / n; published units².

    Returns:
      None if this difference has lost too many digits, as it may for float32 images.
    """
    # Added in an order that does not depend on the processor.
    squares = by_parts(lambda sums: np.square(sums).sum(axis=1), pixel_sums(total, units))
    found = float(squared_norm_total - (squares / np.maximum(total.counts, 1)).sum())
    if not units.step and found < MOST_CANCELLED * squared_norm_total:
        return None
    return max(0.0, found) / units.scale**2


def distances_moved(centroids: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Computes how far each of centroids [k, d] moved, rounded a few times; float64 [k]."""
    return by_parts(lambda a, b: np.sqrt(np.square(a - b).sum(axis=1)), centroids, before)


def inertia(
    squared_norm_total: float, total: ClusterSums, centroids: np.ndarray, units: Units
) -> float:
    """Computes Σ squared distances of the images in `total` to their centroids [k, d].

    Returns:
      Published units².
    """
    own = np.einsum("kd,kd->k", total.sums, centroids)
    score = units.scale * total.counts * squared_norms(centroids, units) - 2 * own
    return max(0.0, float(squared_norm_total / units.scale + score.sum())) / units.scale


def parts_of(pixels: tf.Tensor, units: Units) -> list[tf.Tensor]:
    """Cuts pixels [m, d] into multiples of the quanta, whose sums are exact.

    Args:
      pixels: float64; or float32, if it holds the quanta: no part has more digits than its pixel.
    """
    parts = []
    for quantum in units.quanta[:-1]:
        # Adding and subtracting a large constant would do as well, but TensorFlow leaves it out.
        part = tf.round(pixels * (1 / quantum)) * quantum
        pixels = pixels - part
        parts.append(part)
    # What is left has no digits below the last quantum.
    return [*parts, pixels]


def moved_sums(
    images: tf.Tensor,
    before: tf.Tensor,
    after: tf.Tensor,
    shape: tf.TensorShape | tuple[int, int],
    units: Units,
    rows: tf.Tensor | None = None,
    copies: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes how the images that changed cluster change the cluster sums.

    Only these images are read, which are few after the first iterations. An image whose `before` is
    −1, no cluster, is added to its new cluster and taken from none.

    Args:
      images: uint8 or float32 [n, d], as `stored`.
      before, after: clusters of all images or of those in `rows`, int64.
      shape: [k, d].
      units: of the images.
      rows: int64 [m]; None: all.
      copies: how many equal images each of all rows stands for, float64 [n]; None: one.

    Returns:
      Sums float64 [k, W d], counts float64 [k], and the number of moved images, float64: all exact
      integers.
    """
    num_clusters, num_features = shape
    moved = tf.where(before != after)[:, 0]
    size = min(images_per_block(images.shape[1]), MAX_EXACT_IMAGES)

    def body(start, sums, counts):
        index = moved[start : start + size]
        pixels = take(images, index if rows is None else tf.gather(rows, index))
        parts = _exact_parts(pixels, units, tf.float32 if copies is None else tf.float64)
        each = tf.ones([tf.size(index)], tf.float64)
        if copies is not None:
            each = tf.gather(copies, index)
            parts = [part * each[:, None] for part in parts]
        own = tf.gather(before, index), tf.gather(after, index)
        return start + size, *_with_gains(sums, counts, parts, each, *own)

    width = images.shape[1] * len(units.quanta or (1,))
    with tf.control_dependencies([moved]):  # or they would be made, and held, before all else
        # Not tf.zeros: a constant must not be changed in place.
        zeros = tf.raw_ops.Empty(shape=[num_clusters, width], dtype=tf.float64, init=True)
    _, sums, counts = tf.while_loop(
        lambda start, *_: start < tf.size(moved),
        body,
        (0, zeros, tf.zeros([num_clusters], tf.float64)),
        parallel_iterations=1,
    )
    sums = sums if units.quanta else sums[:, :num_features]
    if copies is not None:
        return sums, counts, tf.reduce_sum(tf.gather(copies, moved))
    return sums, counts, tf.cast(tf.size(moved), tf.float64)


def _exact_parts(pixels: tf.Tensor, units: Units, of_bytes: tf.DType) -> list[tf.Tensor]:
    """Cuts the pixels [m, d] of a block into parts whose sums are exact; float64.

    Args:
      of_bytes: dtype for bytes, which are one part: float32 unless there are many of each.
    """
    if not units.quanta:
        return [tf.cast(pixels, of_bytes)]
    # Cutting takes a third of the time in float32.
    is_narrow = all(LEAST_QUANTUM <= quantum <= 1 / LEAST_QUANTUM for quantum in units.quanta)
    cut = parts_of(pixels if is_narrow else tf.cast(pixels, tf.float64), units)
    return [tf.cast(part, tf.float64) for part in cut]


def _with_gains(
    sums: tf.Tensor,
    counts: tf.Tensor,
    parts: list[tf.Tensor],
    each: tf.Tensor,
    before: tf.Tensor,
    after: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds what each cluster gains from the images of one block, less what it loses.

    Args:
      sums: float64 [k, W d]; counts: float64 [k].
      parts: of the images, [m, d] each.
      each: how many images each counts for, float64 [m].
      before, after: their clusters, int64 [m].

    Returns:
      The new sums and counts.
    """
    # One segment sum makes both: segments 0 … k − 1 are losses, k … 2k − 1 gains.
    num_clusters = counts.shape[0]
    segments = tf.concat([before, after + num_clusters], 0)
    # A sum over sorted segments costs the same for any k, unlike a product with one-hot rows.
    # Losses of no cluster, −1, are sorted to the front and cut off.
    order = tf.cast(tf.argsort(segments), tf.int64)[tf.math.count_nonzero(segments < 0) :]
    segments = tf.gather(segments, order)
    rows = tf.math.floormod(order, tf.size(before, tf.int64))
    # Only of segments that are there: [2k, d] may be far larger than a block.
    first = segments != tf.concat([tf.constant([-1], tf.int64), segments[:-1]], 0)
    present = tf.gather(segments, tf.where(first)[:, 0])
    numbers = tf.cast(tf.cumsum(tf.cast(first, tf.float64)) - 1, tf.int64)
    summed = [
        tf.sparse.segment_sum(part, rows, numbers, num_segments=tf.size(present)) for part in parts
    ]
    moved = tf.cast(tf.concat(summed, axis=1), tf.float64)
    # In place, one after the other: of each, no cluster comes twice.
    lost = tf.math.count_nonzero(present < num_clusters)
    losers, gainers = (
        tf.cast(clusters, tf.int32) for clusters in (present[:lost], present[lost:] - num_clusters)
    )
    sums = tf.raw_ops.InplaceSub(x=sums, i=losers, v=moved[:lost])
    sums = tf.raw_ops.InplaceAdd(x=sums, i=gainers, v=moved[lost:])
    totals = tf.math.unsorted_segment_sum(tf.gather(each, rows), segments, 2 * num_clusters)
    return sums, counts + totals[num_clusters:] - totals[:num_clusters]

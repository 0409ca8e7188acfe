"""Cluster sums: pixels and images added up by cluster, and the means and inertia they give.

For uint8 images all sums are exact integers. So it does not matter in which order images, blocks,
replicas and workers are added.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import images_per_block, take
from pipeline.shards.pixel_scale import Units, on_grid, squared_norms

# Up to so many images, sums of uint8 pixels stay below 2²⁴ and are exact in float32.
MAX_EXACT_IMAGES = 65_793


class ClusterSums(NamedTuple):
    """Pixel sums and image counts by cluster; exact integers for uint8 images.

    Attributes:
      sums: float64 [k, d], in pixels.
      counts: int64 [k].
    """

    sums: np.ndarray
    counts: np.ndarray

    def merge(self, other: "ClusterSums") -> "ClusterSums":
        """Adds the sums of other images: associative and commutative, exactly so for uint8."""
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


def means(total: ClusterSums, units: Units) -> np.ndarray:
    """Computes the clusters' means, float64 [k, d], on the grid; 0 for empty clusters."""
    counts = np.maximum(total.counts, 1)[:, None]
    return on_grid(total.sums / (units.scale * counts), units)


def inertia_of_means(squared_norm_total: float, total: ClusterSums, units: Units) -> float:
    """Computes Σ squared distances to the clusters' means, Σ‖x‖² − Σ‖S‖² / n; published units²."""
    squares = np.einsum("kd,kd->k", total.sums, total.sums) / np.maximum(total.counts, 1)
    return max(0.0, float(squared_norm_total - squares.sum())) / units.scale**2


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


def moved_sums(
    images: tf.Tensor,
    before: tf.Tensor,
    after: tf.Tensor,
    shape: tf.TensorShape | tuple[int, int],
    rows: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes how the images that changed cluster change the cluster sums.

    Only these images are read, which are few after the first iterations. An image whose `before` is
    −1, no cluster, is added to its new cluster and taken from none.

    Args:
      images: uint8 or float32 [n, d], as `stored`.
      before, after: clusters of all images or of those in `rows`, int64.
      shape: [k, d].
      rows: int64 [m]; None: all.

    Returns:
      Sums float64 [k, d] in pixels, counts float64 [k], and the number of moved images, float64:
      all exact integers for uint8.
    """
    num_clusters, num_features = shape
    moved = tf.where(before != after)[:, 0]
    size = min(images_per_block(images.shape[1]), MAX_EXACT_IMAGES)

    def body(start, sums, counts):
        index = moved[start : start + size]
        pixels = take(images, index if rows is None else tf.gather(rows, index))
        part, count = _gains(
            pixels, tf.gather(before, index), tf.gather(after, index), num_clusters
        )
        return start + size, sums + part, counts + count

    zeros = tf.zeros([num_clusters, images.shape[1]], tf.float64)
    _, sums, counts = tf.while_loop(
        lambda start, *_: start < tf.size(moved),
        body,
        (0, zeros, tf.zeros([num_clusters], tf.float64)),
        parallel_iterations=1,
    )
    return sums[:, :num_features], counts, tf.cast(tf.size(moved), tf.float64)


def _gains(
    pixels: tf.Tensor, before: tf.Tensor, after: tf.Tensor, num_clusters: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums what each cluster gains from the images [m, d] of one block, less what it loses.

    Returns:
      Sums float64 [k, d] and counts float64 [k].
    """
    # Sums of uint8 are exact in float32; those of float images are not, and need float64.
    wide = tf.cast(pixels, tf.float32 if pixels.dtype == tf.uint8 else tf.float64)
    # One segment sum makes both: segments 0 … k − 1 are losses, k … 2k − 1 gains.
    segments = tf.concat([before, after + num_clusters], 0)
    # A sum over sorted segments costs the same for any k, unlike a product with one-hot rows.
    # Losses of no cluster, −1, are sorted to the front and cut off.
    order = tf.cast(tf.argsort(segments), tf.int64)[tf.math.count_nonzero(segments < 0) :]
    segments = tf.gather(segments, order)
    sums = tf.sparse.segment_sum(
        wide,
        tf.math.floormod(order, tf.size(before, tf.int64)),
        segments,
        num_segments=2 * num_clusters,
    )
    ones = tf.ones_like(segments, tf.float64)
    counts = tf.math.unsorted_segment_sum(ones, segments, 2 * num_clusters)
    gained, lost = slice(num_clusters, None), slice(num_clusters)
    return tf.cast(sums[gained] - sums[lost], tf.float64), counts[gained] - counts[lost]

"""The maths of K-means on one block of images: scores, assignments, partial sums.

Pure functions; nothing here knows files, strategies or iterations.

An image is a row x of pixels, x / scale its published value (scale 255 for uint8, 1 for floats).
With centroids c in published units

    score(x, c) = scale · ‖c‖² − 2 x·c        ‖x / scale − c‖² = (‖x‖² / scale + score) / scale

so the nearest centroid has the lowest score. For uint8 images centroids lie on a binary grid, so
fine that no published digit sees it and so coarse that x·c is exact in float64, whatever the order
of its additions: a decision made in float64 is the same for every block shape and machine.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.shards.pixel_scale import (
    ZERO_DISTANCE,
    Units,
    on_grid,
    squared_norms,
    to_squared_distances,
)

FLOAT32_ROUNDING = 2.0**-24
# Sums of uint8 stay below 2²⁴, exact in float32, up to this many images (× 255).
MAX_EXACT_IMAGES = 65_793
# Bytes of a float32.
WORD = 4
# TensorFlow's operations on CPUs work on memory that starts at a multiple of this.
ALIGNED_BYTES = 64
# Scored at a time: a float32 copy that fits the last-level cache next to its uint8 original.
BLOCK_BYTES = 6 << 20
# For so few centroids scores are [k, B]: the product and what follows take half the time.
NARROW = 12


class Scorer(NamedTuple):
    """Centroids as a block needs them.

    Attributes:
      centroids: float64 [k, d], published units.
      bias: scale · ‖c‖², float64 [k].
      margin: float32 [2]; two float32 scores of an image closer than
        margin[0] · ‖x‖ + margin[1] may be in the wrong order.
    """

    centroids: np.ndarray
    bias: np.ndarray
    margin: np.ndarray


class ClusterSums(NamedTuple):
    """Pixel sums and image counts by cluster; exact integers for uint8 images.

    Attributes:
      sums: float64 [k, d], in pixels.
      counts: int64 [k].
    """

    sums: np.ndarray
    counts: np.ndarray

    def merge(self, other: "ClusterSums") -> "ClusterSums":
        """The sums of both sets of images: associative and commutative, exactly so for uint8."""
        return ClusterSums(self.sums + other.sums, self.counts + other.counts)

    @classmethod
    def zero(cls, num_clusters: int, num_features: int) -> "ClusterSums":
        """The sums of no image."""
        return cls(np.zeros((num_clusters, num_features)), np.zeros(num_clusters, np.int64))


def scorer(centroids: np.ndarray, units: Units) -> Scorer:
    """What blocks need to score against centroids [k, d] (on the grid, published units)."""
    squares = squared_norms(centroids, units)
    # The rounding of any order of d products and additions (Higham 2002, section 3.1), of the
    # weights −2c and of the bias; twice, for either of two scores; a little more for higher orders.
    rounding = 2.02 * FLOAT32_ROUNDING
    largest = 2 * np.sqrt(squares.max())
    bias = units.scale * squares
    margin = [(centroids.shape[1] + 4) * rounding * largest, 4 * rounding * bias.max()]
    return Scorer(centroids, bias, np.array(margin, np.float32))


def means(total: ClusterSums, units: Units) -> np.ndarray:
    """Centroids float64 [k, d] of non-empty clusters, on the grid; empty ones at 0."""
    counts = np.maximum(total.counts, 1)[:, None]
    return on_grid(total.sums / (units.scale * counts), units)


def inertia_of_means(squared_norm_total: float, total: ClusterSums, units: Units) -> float:
    """Σ squared distances to the clusters' own means: Σ‖x‖² − Σ‖S‖² / n, in published units²."""
    squares = np.einsum("kd,kd->k", total.sums, total.sums) / np.maximum(total.counts, 1)
    return max(0.0, float(squared_norm_total - squares.sum())) / units.scale**2


def inertia(
    squared_norm_total: float, total: ClusterSums, centroids: np.ndarray, units: Units
) -> float:
    """Σ squared distances of the images in `total` to their centroids [k, d], published units²."""
    own = np.einsum("kd,kd->k", total.sums, centroids)
    score = units.scale * total.counts * squared_norms(centroids, units) - 2 * own
    return max(0.0, float(squared_norm_total / units.scale + score.sum())) / units.scale


def block_rows(num_features: int) -> int:
    """Images scored at a time, so that their float32 copy stays in the cache."""
    rows = int(np.clip(BLOCK_BYTES // (4 * num_features), 64, 16_384))
    return rows // ALIGNED_BYTES * ALIGNED_BYTES


def by_block(function, count: tf.Tensor, num_features: int, dtypes: list) -> list[tf.Tensor]:
    """`by_rows` in blocks for images of `num_features` pixels."""
    return by_rows(function, count, block_rows(num_features), dtypes)


def fill_rows(function, count: tf.Tensor, num_features: int, width: int) -> tf.Tensor:
    """A matrix float32 [count, width] from what `function(start, stop)` returns for its blocks.

    Filled in place: parts that are joined at the end would need the memory twice.
    """
    rows = block_rows(num_features)

    def body(start, matrix):
        stop = tf.minimum(start + rows, count)
        part = function(start, stop)
        # A GPU makes ranges of int64, but of int32 in the host's memory.
        index = tf.cast(tf.range(tf.cast(start, tf.int64), tf.cast(stop, tf.int64)), tf.int32)
        return stop, tf.raw_ops.InplaceUpdate(x=matrix, i=index, v=part)

    empty = tf.raw_ops.Empty(shape=[count, width], dtype=tf.float32)
    _, matrix = tf.while_loop(
        lambda start, _: start < count, body, (0, empty), parallel_iterations=1
    )
    return tf.ensure_shape(matrix, [None, width])


def by_rows(function, count: tf.Tensor, rows: int, dtypes: list) -> list[tf.Tensor]:
    """Concatenates what `function(start, stop)` returns for blocks of `rows` of `count` rows.

    Args:
      function: → a list of tensors [stop − start], one per dtype.
      count: int32 scalar.
      rows: of a block.
      dtypes: of the tensors returned.
    """
    size = tf.maximum((count + rows - 1) // rows, 1)  # an empty block if there is none
    arrays = [tf.TensorArray(t, size, infer_shape=False, element_shape=[None]) for t in dtypes]

    def body(index, arrays):
        start = index * rows
        parts = function(start, tf.minimum(start + rows, count))
        return index + 1, [a.write(index, p) for a, p in zip(arrays, parts, strict=True)]

    # One block at a time: the operations of a block already use every core.
    _, arrays = tf.while_loop(
        lambda index, _: index < size, body, (0, arrays), parallel_iterations=1
    )
    return [a.concat() for a in arrays]


class Nearest(NamedTuple):
    """What one pass knows of images.

    Attributes:
      clusters: the nearest centroid, int64 [n]; of equally near ones the lowest.
      gaps: a lower bound of (distance to the second nearest − distance to the nearest), float32
        [n], published units; 0 where float32 could not tell them apart.
    """

    clusters: tf.Tensor
    gaps: tf.Tensor


def assign(
    images: tf.Tensor,
    squared_norm: tf.Tensor,
    scorer: Scorer,
    units: Units,
    rows: tf.Tensor | None = None,
) -> Nearest:
    """The nearest centroid of every image, or of those in `rows`.

    Args:
      images: uint8 or float32 [n, d], as `stored`.
      squared_norm: ‖x‖² in pixels², float64 [n].
      scorer: of the centroids.
      units: of the pixels.
      rows: int32 or int64 [m].
    """
    weights, bias = rounded_weights(scorer, images)
    if rows is not None:
        squared_norm = tf.gather(squared_norm, rows)

    def nearest(start, stop):
        part = between(images, start, stop) if rows is None else take(images, rows[start:stop])
        clusters, scores, others = nearest_two(tf.cast(part, tf.float32), weights, bias)
        squared = squared_norm[start:stop]
        margin = scorer.margin[0] * tf.cast(tf.sqrt(squared), tf.float32) + scorer.margin[1]
        return [clusters, _gaps(squared, scores + margin, others - scores - margin, units)]

    count, dtypes = tf.size(squared_norm), [tf.int64, tf.float32]
    clusters, gaps = by_block(nearest, count, images.shape[1], dtypes)
    near_tie = tf.where(gaps <= 0)[:, 0]
    size = block_rows(images.shape[1])

    def decide(start, clusters):
        index = near_tie[start : start + size]
        pixels = take(images, index if rows is None else tf.gather(rows, index))
        decided = first_lowest(exact_scores(pixels, exact_weights(scorer, images), scorer.bias))
        return start + size, tf.tensor_scatter_nd_update(clusters, index[:, None], decided)

    # Most passes have no near-tie.
    _, clusters = tf.while_loop(
        lambda start, _: start < tf.size(near_tie), decide, (0, clusters), parallel_iterations=1
    )
    return Nearest(clusters, gaps)


def _gaps(squared_norm, scores, differences, units: Units) -> tf.Tensor:
    """√(D + Δ) − √D for the squared distance D of a score and the difference Δ of two scores.

    From below where D is from above and Δ from below.
    """
    scale = tf.constant(units.scale, tf.float64)
    squared = tf.cast((squared_norm / scale + tf.cast(scores, tf.float64)) / scale, tf.float32)
    return gap_of(tf.maximum(squared, 0.0), tf.maximum(differences / np.float32(units.scale), 0.0))


def gap_of(squared: tf.Tensor, difference: tf.Tensor) -> tf.Tensor:
    """√(squared + difference) − √squared, rounded down, without cancellation; float32 [n]."""
    slack = np.float32(1 - 2.0**-16)
    root = tf.sqrt(squared + difference) + tf.sqrt(squared)
    return slack * tf.math.divide_no_nan(difference, root)


def row_width(num_features: int, dtype: np.dtype) -> int:
    """Pixels that a row of images is `stored` in."""
    return -(-num_features // WORD) * WORD if dtype == np.uint8 else num_features


def stored(pixels: np.ndarray) -> np.ndarray:
    """Images [n, d] as passes need them: rows of bytes end in zeros, in whole words."""
    border = row_width(pixels.shape[1], pixels.dtype) - pixels.shape[1]
    return np.pad(pixels, [(0, 0), (0, border)]) if border else pixels


def widened(values: tf.Tensor, images: tf.Tensor, axis: int) -> tf.Tensor:
    """`values`, whose `axis` has d entries, with zeros for the border of `stored` images."""
    border = images.shape[1] - values.shape[axis]
    widths = [(0, border if other == axis else 0) for other in range(len(values.shape))]
    return tf.pad(values, widths) if border else values


def exact_weights(scorer: Scorer, images: tf.Tensor) -> tf.Tensor:
    """−2c as `stored` images need it; float64 [k, d]."""
    return widened(-2.0 * scorer.centroids, images, 1)


def rounded_weights(scorer: Scorer, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """−2c float32 [k, d] as `stored` images need it, and the bias float32 [k]."""
    return tf.cast(exact_weights(scorer, images), tf.float32), tf.cast(scorer.bias, tf.float32)


def between(images: tf.Tensor, start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """images[start:stop], a view where `start` begins a block.

    TensorFlow copies rows of a matrix unless each begins at a multiple of ALIGNED_BYTES; of a
    vector it asks that only of the first.
    """
    width = images.shape[1]
    start, stop = (tf.cast(row, tf.int64) * width for row in (start, stop))
    return tf.reshape(tf.reshape(images, [-1])[start:stop], [-1, width])


def take(images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Rows of images, as `stored`. No GPU gathers bytes: words are gathered as float32, unread."""
    if images.dtype != tf.uint8:
        return tf.gather(images, rows)
    width = images.shape[1]
    words = tf.bitcast(tf.reshape(images, [-1, width // WORD, WORD]), tf.float32)
    return tf.reshape(tf.bitcast(tf.gather(words, rows), tf.uint8), [-1, width])


def exact_scores(images: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Scores of images [B, d] with a Scorer's exact weights [k, d] and bias [k]; float64 [B, k].

    The same bits for any block shape where the images are bytes.
    """
    return tf.linalg.matmul(tf.cast(images, tf.float64), weights, transpose_b=True) + bias


def first_lowest(scores: tf.Tensor) -> tf.Tensor:
    """The cluster of the lowest score, int64 [B]; of equal ones the first.

    tf.argmin does not promise which of equal ones it finds.
    """
    lowest = tf.reduce_min(scores, axis=1, keepdims=True)
    clusters = tf.range(tf.cast(tf.shape(scores)[1], tf.float64))
    return tf.cast(tf.reduce_min(tf.where(scores == lowest, clusters, np.inf), axis=1), tf.int64)


def nearest_two(
    rows: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The `lowest_two` of scores rows · weightsᵀ + bias.

    Args:
      rows: float32 [B, d]; weights: float32 [k, d]; bias: float32 [k], or none.
    """
    k = weights.shape[0]
    if k is None or k > NARROW:
        scores = tf.linalg.matmul(rows, weights, transpose_b=True)
        return lowest_two(scores if bias is None else tf.nn.bias_add(scores, bias))
    scores = tf.linalg.matmul(weights, rows, transpose_b=True)  # [k, B]
    scores = scores if bias is None else scores + bias[:, None]
    lowest = tf.reduce_min(scores, axis=0)
    numbers = tf.range(k, dtype=tf.float32)[:, None]
    # Of scores that overflowed none may equal the lowest: a cluster all the same.
    clusters = tf.reduce_min(tf.where(scores == lowest, numbers, np.float32(k - 1)), axis=0)
    others = tf.reduce_min(tf.where(numbers == clusters, np.float32(np.inf), scores), axis=0)
    return tf.cast(clusters, tf.int64), lowest, others


def lowest_two(scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The cluster of the lowest of scores [B, k], int64; that score; the lowest of the others."""
    clusters = tf.argmin(scores, axis=1)
    # Added, not chosen by a condition: a third of the time.
    hidden = tf.one_hot(clusters, tf.shape(scores)[1], on_value=np.float32(np.inf), off_value=0.0)
    return clusters, tf.reduce_min(scores, axis=1), tf.reduce_min(scores + hidden, axis=1)


def moved_sums(
    images: tf.Tensor,
    before: tf.Tensor,
    after: tf.Tensor,
    shape: tf.TensorShape,
    rows: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What the images that changed cluster add to the cluster sums.

    Only images that moved are touched: few after the first iterations. From `before` = −1, which
    is no cluster, the sums are those of all images.

    Args:
      images: uint8 or float32 [n, d], as `stored`.
      before, after: clusters of all images or of those in `rows`, int64.
      shape: [k, d].
      rows: int64 [m].

    Returns:
      Sums float64 [k, d] in pixels, counts float64 [k], and the number of moved images, float64:
      all exact integers for uint8.
    """
    num_clusters, num_features = shape
    moved = tf.where(before != after)[:, 0]
    size = min(block_rows(images.shape[1]), MAX_EXACT_IMAGES)
    # Float images have no exact sums to keep; float64 keeps what they have.
    dtype = tf.float32 if images.dtype == tf.uint8 else tf.float64

    def body(start, sums, counts):
        index = moved[start : start + size]
        pixels = tf.cast(take(images, index if rows is None else tf.gather(rows, index)), dtype)
        # One sum over what clusters lose and, behind that, what they gain.
        segments = tf.concat([tf.gather(before, index), tf.gather(after, index) + num_clusters], 0)
        # A sum over sorted segments costs the same for any k, unlike a one-hot product.
        order = tf.cast(tf.argsort(segments), tf.int64)[tf.math.count_nonzero(segments < 0) :]
        segments = tf.gather(segments, order)
        part = tf.sparse.segment_sum(
            pixels,
            tf.math.floormod(order, tf.size(index, tf.int64)),
            segments,
            num_segments=2 * num_clusters,
        )
        ones = tf.ones_like(segments, tf.float64)
        count = tf.math.unsorted_segment_sum(ones, segments, 2 * num_clusters)
        sums += tf.cast(part[num_clusters:] - part[:num_clusters], tf.float64)
        return start + size, sums, counts + count[num_clusters:] - count[:num_clusters]

    zeros = tf.zeros([num_clusters, images.shape[1]], tf.float64)
    _, sums, counts = tf.while_loop(
        lambda start, *_: start < tf.size(moved),
        body,
        (0, zeros, tf.zeros([num_clusters], tf.float64)),
        parallel_iterations=1,
    )
    return sums[:, :num_features], counts, tf.cast(tf.size(moved), tf.float64)


def squared_distances(
    images: tf.Tensor, squared_norm: tf.Tensor, clusters: tf.Tensor, scorer: Scorer, units: Units
) -> tf.Tensor:
    """Squared distance of every image to the centroid of its cluster, published units².

    Args:
      images: [n, d], as `stored`; squared_norm: float64 [n], pixels²; clusters: int64 [n].

    Returns:
      float64 [n], the same bits for any block shape where the images are uint8.
    """
    weights = exact_weights(scorer, images)

    def own_score(start, stop):
        own = clusters[start:stop]
        rows = tf.cast(between(images, start, stop), tf.float64)
        product = tf.reduce_sum(rows * tf.gather(weights, own), axis=1)
        return [product + tf.gather(scorer.bias, own)]

    (score,) = by_block(own_score, tf.shape(images)[0], images.shape[1], [tf.float64])
    return to_squared_distances(score, squared_norm, units, tf.where)


def squared_distances_to(images: tf.Tensor, squared_norm: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Squared distance of every image to one image `other` [d] of the same set, in pixels².

    Args:
      images: [n, d], as `stored`; squared_norm: float64 [n], pixels².

    Returns:
      float64 [n]; exact integers for uint8.
    """
    # Products with the two halves of a byte stay below 2²⁴: float32 at full speed, and exact.
    halves = images.dtype == tf.uint8 and 255 * 15 * images.shape[1] < 2**24
    dtype = tf.float32 if halves else tf.float64
    wide = tf.cast(other, dtype)
    low = tf.math.floormod(wide, 16) if halves else tf.zeros_like(wide)
    columns = widened(tf.stack([wide - low, low], axis=1), images, 0)  # [d, 2]

    def product(start, stop):
        parts = tf.linalg.matmul(tf.cast(between(images, start, stop), dtype), columns)
        return [tf.reduce_sum(tf.cast(parts, tf.float64), axis=1)]

    (products,) = by_block(product, tf.shape(images)[0], images.shape[1], [tf.float64])
    norm = tf.reduce_sum(tf.square(tf.cast(other, tf.float64)))
    return _without_rounding(squared_norm - 2 * products + norm, squared_norm)


def _without_rounding(squared: tf.Tensor, squared_norm: tf.Tensor) -> tf.Tensor:
    return tf.where(squared <= ZERO_DISTANCE * squared_norm, tf.zeros_like(squared), squared)

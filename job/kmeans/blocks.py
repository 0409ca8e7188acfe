"""Blocks: passes walk over the rows of a matrix of images, as many at a time as fit the cache.

Without blocks, TensorFlow would hold a float32 copy of all pixels and scores [n, k] of all images
at once. Rows of bytes are padded to whole words (`stored`), so that a GPU can gather any of them.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Bytes of a float32.
WORD = 4
# TensorFlow's operations on CPUs work on memory that starts at a multiple of this.
ALIGNED_BYTES = 64
# Of the float32 copy of a block: it fits the last-level cache next to its uint8 original.
BLOCK_BYTES = 6 << 20


def images_per_block(num_features: int) -> int:
    """Returns how many images a block has, so that its float32 copy stays in the cache."""
    rows = int(np.clip(BLOCK_BYTES // (4 * num_features), 64, 16_384))
    return rows // ALIGNED_BYTES * ALIGNED_BYTES


def by_block(
    function: Callable, count: tf.Tensor, num_features: int, dtypes: list
) -> list[tf.Tensor]:
    """Calls `by_rows` with the block size that suits images of `num_features` pixels."""
    return by_rows(function, count, images_per_block(num_features), dtypes)


def by_rows(
    function: Callable, count: tf.Tensor, rows: tf.Tensor | int, dtypes: list
) -> list[tf.Tensor]:
    """Concatenates what `function(start, stop)` returns for each block of `rows` of `count` rows.

    Args:
      function: returns a list of tensors [stop − start], one for each of `dtypes`.
      count: int32 scalar.
      rows: how many rows a block has; the last one may have fewer.
      dtypes: of the tensors that `function` returns.
    """
    # At least one block, even an empty one: TensorArray.concat fails without any.
    size = tf.maximum((count + rows - 1) // rows, 1)
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


def fill_rows(function: Callable, count: tf.Tensor, num_features: int, width: int) -> tf.Tensor:
    """Makes a matrix float32 [count, width] of what `function(start, stop)` returns for each block.

    It is filled in place: concatenating the parts at the end would need the memory twice.

    Args:
      function: returns float32 [stop − start, width].
      count: int32 scalar.
      num_features: pixels of an image, which decide how many images a block has.
      width: columns of the matrix.
    """
    rows = images_per_block(num_features)

    def body(start, matrix):
        stop = tf.minimum(start + rows, count)
        part = function(start, stop)
        # First int64, which a GPU makes itself: ranges of int32 are made in the host's memory.
        index = tf.cast(tf.range(tf.cast(start, tf.int64), tf.cast(stop, tf.int64)), tf.int32)
        return stop, tf.raw_ops.InplaceUpdate(x=matrix, i=index, v=part)

    empty = tf.raw_ops.Empty(shape=[count, width], dtype=tf.float32)
    _, matrix = tf.while_loop(
        lambda start, _: start < count, body, (0, empty), parallel_iterations=1
    )
    return tf.ensure_shape(matrix, [None, width])


def is_usable(array: np.ndarray) -> bool:
    """Tells whether TensorFlow can use the memory of an array without a copy."""
    aligned = array.flags.c_contiguous and array.flags.writeable
    return bool(aligned and array.ctypes.data % ALIGNED_BYTES == 0 and array.size)


def aligned_empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Makes an uninitialised array that TensorFlow can use without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNED_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNED_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def row_width(num_features: int, dtype: np.dtype) -> int:
    """Returns how many pixels a row of `stored` images has: for uint8 a multiple of WORD."""
    return -(-num_features // WORD) * WORD if dtype == np.uint8 else num_features


def stored(pixels: np.ndarray) -> np.ndarray:
    """Pads images [n, d] to the layout that all passes expect: rows of bytes fill whole words.

    What is added is 0. Rows of float32 stay as they are.
    """
    border = row_width(pixels.shape[1], pixels.dtype) - pixels.shape[1]
    return np.pad(pixels, [(0, 0), (0, border)]) if border else pixels


def widened(values: tf.Tensor, images: tf.Tensor, axis: int) -> tf.Tensor:
    """Pads `values`, whose `axis` has d entries, with zeros to the width of `stored` images."""
    border = images.shape[1] - values.shape[axis]
    widths = [(0, border if other == axis else 0) for other in range(len(values.shape))]
    return tf.pad(values, widths) if border else values


def between(images: tf.Tensor, start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """Slices images[start:stop]; where `start` begins a block, without a copy.

    TensorFlow copies a slice of a matrix unless each of its rows begins at a multiple of
    ALIGNED_BYTES; of a slice of a vector, only the first element has to.
    """
    width = images.shape[1]
    start, stop = (tf.cast(row, tf.int64) * width for row in (start, stop))
    return tf.reshape(tf.reshape(images, [-1])[start:stop], [-1, width])


def reader(images: tf.Tensor, rows: tf.Tensor | None, count: tf.Tensor) -> Callable:
    """Makes a function that reads rows of `stored` images: (start, stop) → [stop − start, width].

    Args:
      rows: which images; None: all. The first `count` are ascending; what follows fills up blocks.
      count: int32 scalar.
    """
    if rows is None:
        return functools.partial(between, images)
    every = count == tf.shape(images)[0]

    def read(start, stop):
        # Gathering all would copy what can be read where it lies.
        return tf.cond(
            every, lambda: between(images, start, stop), lambda: take(images, rows[start:stop])
        )

    return read


def take(images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers `rows` [m] of `stored` images; [m, width].

    TensorFlow has no GPU kernel that gathers bytes. Four of them are gathered as one float32, which
    is only moved, never computed with.
    """
    if images.dtype != tf.uint8:
        return tf.gather(images, rows)
    width = images.shape[1]
    words = tf.bitcast(tf.reshape(images, [-1, width // WORD, WORD]), tf.float32)
    return tf.reshape(tf.bitcast(tf.gather(words, rows), tf.uint8), [-1, width])

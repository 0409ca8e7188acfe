"""Walks over the rows of a matrix, block by block, and the padding that lets GPUs gather bytes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from kmeans_graphs import bytes_of

from job.kmeans import blocks
from job.kmeans.blocks import ALIGNED_BYTES, BLOCK_BYTES


@given(st.integers(1, 10**6))
def test_a_block_is_a_cacheful_of_whole_alignments(num_features):
    rows = blocks.images_per_block(num_features)
    assert rows % ALIGNED_BYTES == 0
    assert 64 <= rows <= 16_384
    assert rows == 64 or 4 * rows * num_features <= BLOCK_BYTES


@settings(deadline=None)
@given(count=st.integers(0, 30), rows=st.integers(1, 12))
def test_blocks_follow_each_other_and_cover_all_rows(count, rows):
    values, sizes = blocks.by_rows(
        lambda start, stop: [tf.range(start, stop), tf.fill([stop - start], stop - start)],
        tf.constant(count),
        rows,
        [tf.int32, tf.int32],
    )
    np.testing.assert_array_equal(values, np.arange(count))
    assert values.dtype == sizes.dtype == tf.int32
    *whole, last = [*sizes.numpy()[::rows], rows]
    assert all(size == rows for size in whole[:-1])
    assert last <= rows


def test_by_block_walks_in_the_blocks_of_that_width(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64 * 4 * 1000)
    count = tf.constant(150)
    (starts,) = blocks.by_block(
        lambda start, stop: [tf.fill([stop - start], start)], count, 1000, [tf.int32]
    )
    assert starts.numpy().tolist() == [0] * 64 + [64] * 64 + [128] * 22


@pytest.mark.parametrize("count", [0, 1, 64, 150])
def test_a_matrix_is_filled_in_place(monkeypatch, count):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64 * 4 * 1000)
    expected = np.random.default_rng(0).random((count, 3), np.float32)

    @tf.function(autograph=False)
    def filled():
        whole = tf.constant(expected)
        return blocks.fill_rows(lambda start, stop: whole[start:stop], tf.constant(count), 1000, 3)

    np.testing.assert_array_equal(filled(), expected)


@pytest.mark.parametrize(("d", "width"), [(1, 4), (4, 4), (5, 8), (784, 784), (787, 788)])
def test_rows_of_bytes_are_stored_in_whole_words(d, width):
    images = bytes_of(np.random.default_rng(d), 9, d)
    padded = blocks.stored(images)
    assert padded.shape == (9, width) == (9, blocks.row_width(d, images.dtype))
    np.testing.assert_array_equal(padded[:, :d], images)
    assert not padded[:, d:].any()


def test_rows_of_floats_are_stored_as_they_are():
    images = np.ones((9, 5), np.float32)
    assert blocks.stored(images) is images
    assert blocks.row_width(5, images.dtype) == 5


def test_values_are_widened_with_zeros_on_one_axis():
    images = tf.zeros([3, 8], tf.uint8)
    values = np.random.default_rng(0).random((5, 6))
    wide = blocks.widened(values, images, 1).numpy()
    np.testing.assert_array_equal(wide, np.pad(values, [(0, 0), (0, 2)]))
    tall = blocks.widened(values, images, 0).numpy()
    np.testing.assert_array_equal(tall, np.pad(values, [(0, 3), (0, 0)]))
    assert blocks.widened(values, tf.zeros([3, 6], tf.uint8), 1) is values


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("d", [4, 6, 21])
def test_slices_and_gathered_rows_are_those_of_numpy(dtype, d):
    images = bytes_of(np.random.default_rng(d), 200, d).astype(dtype)
    padded = tf.constant(blocks.stored(images))
    for start, stop in [(0, 64), (64, 200), (200, 200)]:
        part = blocks.between(padded, tf.constant(start), tf.constant(stop))
        np.testing.assert_array_equal(part[:, :d], images[start:stop])
    for rows in ([], [7], [199, 0, 7, 7]):
        taken = blocks.take(padded, tf.constant(rows, tf.int64))
        assert taken.dtype == images.dtype
        np.testing.assert_array_equal(taken[:, :d], images[rows])


@pytest.mark.parametrize("order", [1, -1])
def test_gathered_bytes_keep_the_bits_of_any_float(order):
    """Four bytes are gathered as a float32: NaN, infinity and subnormals are not to change."""
    words = [[0, 0, 160, 127], [1, 0, 128, 255], [0, 0, 128, 127], [1, 0, 0, 0], [255] * 4]
    images = np.array(words, np.uint8)[:, ::order].copy()
    np.testing.assert_array_equal(blocks.take(tf.constant(images), tf.range(5)), images)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("chosen", [None, range(50), range(1, 50, 3)])
def test_a_reader_reads_the_chosen_rows_block_by_block(dtype, chosen):
    """All of them, in order, are not gathered: they are the same pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 7)).astype(dtype)
    images = blocks.stored(pixels)
    rows = None if chosen is None else tf.constant(chosen, tf.int64)
    expected = images if chosen is None else images[chosen]
    read = blocks.reader(tf.constant(images), rows, tf.constant(len(expected)))
    parts = [read(start, start + 16).numpy() for start in range(0, len(expected), 16)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)

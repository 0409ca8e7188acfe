"""Images of an array in memory: those of shards made of it, but not a byte is copied."""

import numpy as np
import pytest
import shard_set
import tensorflow as tf

from job.distribute.replicas import local_replicas
from job.images import array
from job.images.array import (
    ArrayImages,
    ArrayReader,
    Graphs,
    StreamedArray,
    array_images,
    graphs_of,
    to_float32,
)
from job.images.resident import ResidentImages
from job.kmeans.blocks import aligned_empty
from kmeans_job import KMeans
from pipeline.errors import UserError
from pipeline.shards.manifest import load_manifest

RNG = np.random.default_rng(0)


def aligned(rows: int, width: int) -> np.ndarray:
    """Bytes where TensorFlow can use them."""
    pixels = aligned_empty((rows, width), "uint8")
    pixels[:] = RNG.integers(0, 256, pixels.shape)
    return pixels


def held(pixels: np.ndarray, replicas: int) -> list[np.ndarray]:
    """The memory of each replica's pixels, as a pass sees it."""
    images = ArrayImages(pixels, Graphs(machine := local_replicas(replicas)))
    return [np.from_dlpack(part) for part in machine.parts(images._images[0])]


def norms(images, squared_norm, state, shared):
    sums = tf.reduce_sum(tf.cast(images, tf.float64), axis=1)
    return state + sums, [tf.reduce_sum(squared_norm)]


def no_sums(images, squared_norm, state, shared):
    return state, [squared_norm[:0]]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_they_are_those_of_shards(cpus, tmp_path, dtype, replicas):
    pixels = RNG.integers(0, 256, (101, 5)).astype(dtype)
    shard_set.write(tmp_path, pixels)
    shards = ResidentImages(str(tmp_path), load_manifest(str(tmp_path)), local_replicas(replicas))
    images = ArrayImages(pixels, Graphs(local_replicas(replicas)))
    for one, other in zip(images.digests, shards.digests, strict=True):
        np.testing.assert_array_equal(one, other)
    assert images.squared_norm_total == shards.squared_norm_total
    assert images.units == shards.units
    assert (images.num_images, images.num_features) == pixels.shape
    places = [place for _, place in images.smallest([images.digests], 7)]
    np.testing.assert_array_equal(images.take(places), shards.take(places))


def test_bytes_are_used_where_they_lie(cpus):
    pixels = aligned(128, 64)
    (own,) = held(pixels, 1)
    assert np.shares_memory(own, pixels)
    first, second = held(pixels, 2)
    assert np.shares_memory(first, pixels[:64])
    assert np.shares_memory(second, pixels[64:])


def test_a_file_that_is_mapped_is_used_where_it_lies(cpus, tmp_path):
    np.save(tmp_path / "set.npy", pixels := aligned(100, 64))
    mapped = np.load(tmp_path / "set.npy", mmap_mode="r")
    (own,) = held(mapped, 1)
    assert np.shares_memory(own, mapped)
    np.testing.assert_array_equal(own, pixels)


@pytest.mark.parametrize("pixels", [aligned(100, 6), aligned(100, 64).astype(np.float32)])
def test_others_are_copied(cpus, pixels):
    (own,) = held(pixels, 1)
    assert not np.shares_memory(own, pixels)


def test_a_state_beside_a_large_array_is_small(cpus, monkeypatch):
    pixels = aligned(100, 64)
    assert ArrayImages(pixels, Graphs(local_replicas(1))).spare_row_bytes > 64
    monkeypatch.setattr(array, "LITTLE_BYTES", 0)
    monkeypatch.setattr(array, "STATE_SHARE", 0.1)
    assert ArrayImages(pixels, Graphs(local_replicas(1))).spare_row_bytes == 6


@pytest.mark.parametrize("width", [6, 64])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("lies_well", [True, False])
def test_large_arrays_are_passed_over_by_chunk(cpus, monkeypatch, width, replicas, lies_well):
    monkeypatch.setattr(array, "LEAST_CHUNK_BYTES", 64 * width)
    graphs = Graphs(local_replicas(replicas))
    if lies_well:
        pixels = aligned(200, width)
    else:
        pixels = aligned(202, width).ravel()[width - 1 : -1][: 200 * width].reshape(200, width)
    copied = array_images(pixels, graphs)
    assert isinstance(copied, ArrayImages)
    monkeypatch.setattr(array, "MOST_WHOLE_BYTES", 0)
    images = array_images(pixels, graphs)
    assert isinstance(images, StreamedArray)
    assert images._num_chunks > 1
    assert images.squared_norm_total == copied.squared_norm_total
    for one, other in zip(images.digests, copied.digests, strict=True):
        np.testing.assert_array_equal(one, other)
    places = [place for _, place in copied.smallest([copied.digests], 7)]
    np.testing.assert_array_equal(images.take(places), copied.take(places))
    for _ in range(2):
        state, (total,) = images.compile(norms)(images.state(np.zeros), None)
        np.testing.assert_array_equal(np.concatenate(images.local(state)), pixels.sum(axis=1))
        assert total == images.squared_norm_total


def test_chunks_are_returned_as_they_lie(cpus):
    pixels, chunks = aligned(200, 64), [slice(0, 128), slice(128, 200)]
    reader = ArrayReader(pixels, chunks)
    for chunk in (*chunks, chunks[0]):
        part = reader.next()
        assert np.shares_memory(part, pixels)
        np.testing.assert_array_equal(part, pixels[chunk])
    narrow = ArrayReader(pixels[:, :6].copy(), chunks)
    first = narrow.next()
    np.testing.assert_array_equal(first, np.pad(pixels[:128, :6], [(0, 0), (0, 2)]))
    assert np.shares_memory(narrow.next(), first)  # one buffer for all


@pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_fits_by_chunk_have_the_same_bits(cpus, monkeypatch, algorithm, init):
    pixels = RNG.integers(0, 256, (700, 10), dtype=np.uint8)
    kmeans = KMeans(20, algorithm=algorithm, init=init)
    whole = kmeans.fit(pixels).cluster_centers_.tobytes(), kmeans.inertia_
    monkeypatch.setattr(array, "LEAST_CHUNK_BYTES", 64 * 10)
    monkeypatch.setattr(array, "MOST_WHOLE_BYTES", 0)
    assert (kmeans.fit(pixels).cluster_centers_.tobytes(), kmeans.inertia_) == whole


def test_graphs_serve_arrays_of_any_length(cpus):
    a, b, c = aligned(100, 64), aligned(9, 64), aligned(9, 60)
    graphs = graphs_of(1, 3, a)
    assert graphs_of(1, 3, b) is graphs
    others = [graphs_of(1, 3, c), graphs_of(1, 4, a), graphs_of(1, 3, a.astype(np.float32))]
    assert graphs not in [*others, graphs_of(2, 3, a)]
    step = graphs.compile(no_sums, ())
    assert graphs.compile(no_sums, ()) is step
    assert graphs.compile(no_sums, (1,)) is not step


def test_rounding_to_float32():
    wide = np.array([[1e9 + 1, 2.0], [1e9, 0.1]])
    np.testing.assert_array_equal(to_float32(wide, None), wide.astype(np.float32))
    moved = to_float32(wide, np.array([1e9, 0]))
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, np.array([[1, 2], [0, 0.1]], np.float32))
    with pytest.raises(UserError, match=r"X: a value of -1e\+200, which float32 cannot hold; div"):
        to_float32(np.array([[1.0, -1e200]]), None)

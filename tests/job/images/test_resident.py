"""Images in memory: on each replica its own, and what passes and places see of them."""

import numpy as np
import pytest
import shard_set
import tensorflow as tf
from kmeans_graphs import bytes_of

from job import hashing
from job.distribute.replicas import local_replicas
from job.images.places import Place
from job.images.resident import ResidentImages


@pytest.fixture(params=["uint8", "float32"])
def pixels(request) -> np.ndarray:
    return bytes_of(np.random.default_rng(0), 101, 5).astype(request.param)


@pytest.fixture(params=[1, 3], ids="{} replicas".format)
def images(request, pixels, tmp_path, cpus) -> ResidentImages:
    manifest = shard_set.write_plain(tmp_path, pixels)
    return ResidentImages(str(tmp_path), manifest, local_replicas(request.param))


def kept(images: ResidentImages, pixels: np.ndarray) -> np.ndarray:
    """The pixels as the images have them: those of float32 in their frame."""
    return pixels if pixels.dtype == np.uint8 else images.frame.inside(pixels)


def row_sums(images, squared_norm, state, shared, factor):
    sums = factor * tf.reduce_sum(tf.cast(images, tf.float64), axis=1)
    return state + sums, [tf.reduce_sum(sums) + shared, tf.reduce_sum(squared_norm)]


def test_what_is_known_of_the_images(images, pixels):
    assert (images.num_images, images.num_features) == pixels.shape
    assert images.squared_norm_total == np.square(kept(images, pixels), dtype=np.float64).sum()
    digests = hashing.digests(f"i{row:05d}" for row in range(101))
    np.testing.assert_array_equal(np.concatenate(images.digests), digests)


def test_a_pass_sees_every_image_once_and_in_order(images, pixels):
    run = images.compile(row_sums, 2.0)
    assert images.compile(row_sums, 2.0) is run  # traced once
    assert images.compile(row_sums, 3.0) is not run
    state, (total, norms) = run(images.state(np.ones), np.float64(0))
    expected = 2 * kept(images, pixels).sum(axis=1, dtype=np.float64)
    np.testing.assert_array_equal(np.concatenate(images.local(state)), expected + 1)
    assert total == expected.sum()
    assert norms == images.squared_norm_total
    images.forget_passes()
    assert images.compile(row_sums, 2.0) is not run


def test_a_state_has_a_row_for_each_image(images):
    parts = images.local(images.state(lambda count: np.arange(count)))
    assert [len(part) for part in parts] == [len(part) for part in images.digests]
    assert all((part == np.arange(len(part))).all() for part in parts)


def test_images_are_read_by_place(images, pixels):
    starts = np.cumsum([0, *map(len, images.digests)])
    places = [
        Place(0, replica, row)
        for replica, part in enumerate(images.digests)
        for row in (len(part) - 1, 0)
    ]
    found = images.take(places)
    assert found.dtype == pixels.dtype
    expected = kept(images, pixels)[[starts[p.replica] + p.row for p in places]]
    np.testing.assert_array_equal(found, expected)
    assert images.holds(places[0])
    assert not images.holds(Place(1, 0, 0))
    assert images.take([]).shape == (0, 5)

"""The nearest centroid in numpy: the job's own answers, in blocks of any size."""

import numpy as np
import pytest
import sets
from drawn_sets import sets as kmeans_sets
from hypothesis import given, settings

from job.result.assigner import Assigner
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards.block import Block
from pipeline.shards.pixel_scale import on_grid, units_of


@settings(max_examples=25, deadline=None)
@given(kmeans_sets())
def test_numpy_scores_as_the_job_does(drawn):
    images, centroids = drawn
    units = units_of(images.dtype, images.shape[1])
    published = on_grid(centroids, units).astype(np.float32)
    block = Block([str(i) for i in range(len(images))], None, images)
    expected = Assigner(published, "uint8")(block).assigned
    found = NearestCentroid(Model("", published, images.shape[1:], "uint8"))(block)
    np.testing.assert_array_equal(found.clusters, expected.clusters)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)


@pytest.mark.parametrize("scale", [1, 1e-3, 1e4])
def test_floats(scale):
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(3000, 33)) * scale).astype(np.float32)
    centroids = (rng.normal(size=(40, 33)) * scale).astype(np.float32)
    block = Block([str(i) for i in range(len(images))], None, images)
    expected = Assigner(centroids, "float32")(block).assigned
    found = NearestCentroid(Model("", centroids, (33,), "float32"))(block)
    np.testing.assert_array_equal(found.clusters, expected.clusters)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)


def test_floats_that_scores_cannot_tell_apart():
    """Centroids at the same distance in different directions, and one that makes margins large."""
    rng = np.random.default_rng(0)
    images = (0.5 + rng.random((60, 99)) / 2).astype(np.float32)  # multiples of 2⁻²⁴
    images *= 2.0 ** (np.arange(99) % 14).astype(np.float32)  # so that sums of products round
    near = np.repeat(images[:6], 5, axis=0)
    near[np.arange(30), rng.integers(0, 99, 30)] += np.float32(2.0**-10)
    centroids = np.concatenate([near, near[:3], np.full((1, 99), 1e5, np.float32)])
    block = Block([""] * 60, None, images)
    found = NearestCentroid(Model("", centroids, (99,), "float32")).measure(block)
    whole, others = (
        (2.0**24 * rows.astype(float)).astype(int).astype(object) for rows in (images, centroids)
    )
    apart = ((whole[:, None] - others) ** 2).sum(axis=2)
    clusters = [row.index(min(row)) for row in apart.tolist()]
    assert found.assigned.clusters.tolist() == clusters
    first, second = np.sort(apart, axis=1)[:, :2].T.astype(float) / 2.0**48
    np.testing.assert_allclose(found.assigned.squared_distances, first, rtol=1e-14)
    np.testing.assert_allclose(found.second_squared_distances, second, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("threads", [None, 1])
def test_distances_to_all_centroids(monkeypatch, dtype, threads):
    monkeypatch.setattr("pipeline.nearest.SCORED_BYTES", 1)  # 128 images at a time
    monkeypatch.setattr("pipeline.nearest.PART_PRODUCTS", 1)  # and for each thread
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 7)).astype(dtype)
    images[100:] += np.zeros(7, dtype) if dtype == "uint8" else np.full(7, 2.0**15, dtype)
    scale = 255 if dtype == "uint8" else 1
    centroids = (images[95:105] / scale).astype(np.float32)  # on images, which lose all digits
    nearest = NearestCentroid(Model("", centroids, (7,), dtype), threads)
    found = nearest.squared_distances(images)
    wide = images.astype(np.longdouble) / scale - centroids.astype(np.longdouble)[:, None]
    expected = np.square(wide).sum(axis=2).T.astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 if scale == 255 else 0)
    own = nearest(Block([str(row) for row in range(300)], None, images))
    np.testing.assert_allclose(found.min(axis=1), own.squared_distances, rtol=1e-10)


def test_blocks_of_any_size(monkeypatch):
    images, _ = sets.digits(100)
    model = Model("", np.random.default_rng(0).random((4, 30)).astype(np.float32), (6, 5), "uint8")
    block = Block([str(i) for i in range(100)], None, images.reshape(100, 30))
    expected = NearestCentroid(model)(block)
    monkeypatch.setattr("pipeline.nearest.SCORED_BYTES", 8 * 34 * 7)  # seven images
    found = NearestCentroid(model)(block)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)


def test_four_images_by_hand():
    """Centroids at (0, 0) and (1, 1); the last image is as far from both."""
    model = Model("", np.array([[0, 0], [1, 1]], np.float32), (2,), "uint8")
    images = np.array([[0, 0], [255, 255], [51, 0], [255, 0]], np.uint8)
    found = NearestCentroid(model)(Block(list("abcd"), None, images))
    assert found.clusters.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(found.squared_distances, [0, 0, 0.04, 1], rtol=1e-12)
    assert found.squared_distances[:2].tolist() == [0, 0]


def test_models_that_answer_differently_have_other_fingerprints():
    centroids = np.zeros((2, 6), np.float32)
    models = [
        Model("a", centroids, (2, 3), "uint8"),
        Model("a", centroids, (3, 2), "uint8"),
        Model("a", centroids, (6,), "float32"),
        Model("a", centroids + np.float32(1e-7), (2, 3), "uint8"),
    ]
    assert len({model.fingerprint() for model in models}) == len(models)
    assert models[0]._replace(folder="b").fingerprint() == models[0].fingerprint()

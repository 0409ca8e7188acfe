"""The nearest published centroid, against exact integers, for blocks of any size."""

import numpy as np
import oracle
import pytest
from threadpoolctl import ThreadpoolController

from job.result import assigner
from job.result.assigner import Assigner, CachedAssigner, assigner_of
from pipeline import nearest
from pipeline.shards.block import Block
from pipeline.shards.pixel_scale import on_grid, units_of

FRACTION = 2**33  # what makes integers of centroids on the grid


def block_of(pixels: np.ndarray) -> Block:
    return Block([str(i) for i in range(len(pixels))], None, pixels)


def drawn(count: int, num_features: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of few levels and centroids among them: many are as near to one as to another."""
    rng = np.random.default_rng(k)
    images = rng.integers(0, 4, (count, num_features)).astype(np.uint8)
    return images, (rng.integers(0, 4, (k, num_features)) / 512).astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_clusters_and_distances_of_bytes(k):
    images, centroids = drawn(300, 5, k)
    found = Assigner(centroids, "uint8")(block_of(images))
    clusters = oracle.nearest(images, centroids.astype(np.float64), FRACTION)
    np.testing.assert_array_equal(found.assigned.clusters, clusters)
    assert found.assigned.clusters.dtype == np.int32
    apart = np.square(images[:, None] / 255 - centroids.astype(np.float64)).sum(axis=2)
    ordered = np.sort(apart, axis=1)
    np.testing.assert_allclose(
        found.assigned.squared_distances, ordered[:, 0], rtol=1e-9, atol=1e-15
    )
    np.testing.assert_array_equal(found.squared_norms, np.square(images.astype(float)).sum(axis=1))
    second = ordered[:, min(1, k - 1)]
    expected = np.where(second > 0, 1 - np.sqrt(ordered[:, 0] / np.maximum(second, 1e-30)), 0)
    np.testing.assert_allclose(found.silhouettes, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_blocks_of_any_size_give_the_same_bits(monkeypatch, dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 30)).astype(dtype)
    centroids = on_grid(rng.random((6, 30)), units_of(np.dtype(dtype), 30)).astype(np.float32)
    whole = Assigner(centroids, dtype)(block_of(images))
    monkeypatch.setattr(assigner, "SCORED_BYTES", 36 * 8 * 16)  # 16 images at a time
    parts = Assigner(centroids, dtype)(block_of(images))
    np.testing.assert_array_equal(parts.assigned.clusters, whole.assigned.clusters)
    if dtype == "uint8":
        for name in ("silhouettes", "squared_norms"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        squared = parts.assigned.squared_distances
        np.testing.assert_array_equal(squared, whole.assigned.squared_distances)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_in_the_cache_with_the_same_bits(monkeypatch, k):
    images, centroids = drawn(300, 5, k)
    monkeypatch.setattr(nearest, "SCORED_BYTES", 1)
    monkeypatch.setattr(nearest, "SHARING", 5)  # images at a time
    monkeypatch.setattr(nearest, "PART_PRODUCTS", 7 * centroids.size)  # 7 images for each thread
    found = assigner_of(centroids, "uint8")(block_of(images))
    expected = Assigner(centroids, "uint8")(block_of(images))
    for name in ("clusters", "squared_distances"):
        ours, its = getattr(found.assigned, name), getattr(expected.assigned, name)
        np.testing.assert_array_equal(ours, its)
        assert ours.dtype == its.dtype
    for name in ("silhouettes", "squared_norms"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_who_assigns():
    few, many = np.zeros((3, 4), np.float32), np.zeros((1 << 15, 17), np.float32)
    assert isinstance(assigner_of(few, "uint8"), CachedAssigner)
    assert isinstance(assigner_of(few, "float32"), Assigner)
    assert isinstance(assigner_of(many, "uint8"), Assigner)


def test_threads_leave_the_library_as_they_found_it(monkeypatch):
    images, centroids = drawn(3000, 5, 40)
    monkeypatch.setattr(nearest, "SCORED_BYTES", 1)
    monkeypatch.setattr(nearest, "PART_PRODUCTS", centroids.size)
    before = [each["num_threads"] for each in ThreadpoolController().info()]
    assigner_of(centroids, "uint8")(block_of(images))
    assert [each["num_threads"] for each in ThreadpoolController().info()] == before


def test_an_image_on_its_centroid_is_at_distance_zero():
    images, _ = drawn(50, 30, 1)
    units = units_of(images.dtype, 30)
    centroids = on_grid(images[:5] / 255, units)
    found = Assigner(centroids.astype(np.float32), "uint8")(block_of(images[:5]))
    assert (found.assigned.squared_distances < 1e-12).all()


@pytest.mark.parametrize("pairs_of_an_image", [0, 16])
def test_products_of_float32_leave_the_nearest_two_to_exact_ones(monkeypatch, pairs_of_an_image):
    """Of few levels: many centroids are as near as the second nearest, or all but that."""
    monkeypatch.setattr(assigner, "PAIRS_OF_AN_IMAGE", pairs_of_an_image)
    images, centroids = drawn(300, 5, 40)
    some = np.random.default_rng(0).random((300, 5)) < 0.5
    images[some] += 200  # far from all centroids: float32 rounds scores, and differences drown
    expected = Assigner(centroids, "uint8")(block_of(images))
    monkeypatch.setattr(assigner, "MANY_CENTROIDS", 2)
    found = Assigner(centroids, "uint8")(block_of(images))
    np.testing.assert_array_equal(found.assigned.clusters, expected.assigned.clusters)
    np.testing.assert_array_equal(found.silhouettes, expected.silhouettes)
    squared = found.assigned.squared_distances
    np.testing.assert_array_equal(squared, expected.assigned.squared_distances)

"""The grid of centroids, on which products with bytes are exact."""

import math

import numpy as np
import pytest
from kmeans_graphs import BYTES, FLOATS, bytes_of

from job.kmeans.sums import (
    ClusterSums,
    means,
)
from pipeline.shards.pixel_scale import on_grid, squared_norms, units_of


@pytest.mark.parametrize("d", [1, 3, 64, 784, 150_528])
def test_products_on_the_grid_do_not_depend_on_the_order_of_additions(d):
    rng = np.random.default_rng(d)
    units = units_of(np.dtype("uint8"), d)
    centroid = on_grid(rng.random((1, d)), units)[0]
    centroid[: d // 2] = 1 - units.step  # all bits of it, and the largest sums
    images = bytes_of(rng, 3, d)
    images[0] = 255
    for image in images.astype(np.float64):
        exact = math.fsum(image * centroid)
        products = image * centroid
        assert products.sum() == products[::-1].sum() == np.cumsum(products)[-1] == exact
        assert image @ centroid == exact
    assert units.step < 1e-6


@pytest.mark.parametrize("d", [1, 2, 64, 784, 150_528])
def test_norms_on_the_grid_do_not_depend_on_the_order_of_additions(d):
    rng = np.random.default_rng(d)
    units = units_of(np.dtype("uint8"), d)
    centroids = on_grid(rng.random((3, d)), units)
    centroids[0] = 1 - units.step
    found = squared_norms(centroids, units)
    for _ in range(3):
        order = rng.permutation(d)
        np.testing.assert_array_equal(squared_norms(centroids[:, order], units), found)
    np.testing.assert_allclose(found, np.square(centroids).sum(axis=1), rtol=1e-12)


def test_the_grid_holds_what_is_published():
    """float32 values, once read back, are the centroids that the assignments are made with."""
    rng = np.random.default_rng(10)
    counts = rng.integers(1, 60_000, (50, 1))
    total = ClusterSums(np.floor(rng.random((50, 784)) ** 4 * 255 * counts), counts[:, 0])
    published = means(total, BYTES).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(on_grid(published, BYTES), published)


def test_float_images_have_no_grid():
    centroids = np.random.default_rng(11).normal(size=(3, 784))
    assert (FLOATS.scale, FLOATS.step) == (1.0, 0.0)
    assert on_grid(centroids, FLOATS) is centroids

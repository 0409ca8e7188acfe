"""The map of the images lies where the centroids say."""

import numpy as np
import pytest

from job.report.image_map import GRID, coordinates


def test_the_plane_of_the_centroids_keeps_distances_on_it():
    centroids = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]])
    images = np.array([[0.0, 0, 9], [4, 0, -9], [0, 3, 0]])  # the third number is not on the plane
    places = coordinates(images, centroids)
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    assert apart[0, 1] / apart[0, 2] == pytest.approx(4 / 3, rel=1e-3)
    assert apart[1, 2] / apart[0, 2] == pytest.approx(5 / 3, rel=1e-3)
    assert places.min() >= 0
    assert places.max() <= GRID


@pytest.mark.parametrize("k", [1, 2])
def test_images_give_the_axes_that_few_centroids_do_not(k):
    random = np.random.default_rng(0)
    images = random.normal(size=(50, 5)) * [9, 4, 1, 1, 1]
    places = coordinates(images, images[:k])
    assert (np.ptp(places, axis=0) > GRID / 10).all()
    np.testing.assert_array_equal(places, coordinates(images, images[:k]))


def test_bytes_lie_where_their_values_do():
    images = np.random.default_rng(0).integers(0, 256, (200, 6), np.uint8)
    expected = coordinates(images / 255, images[:4] / 255)
    np.testing.assert_array_equal(coordinates(images, images[:4] / 255), expected)


def test_images_at_one_place_are_in_the_middle():
    places = coordinates(np.ones((4, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(places, np.full((4, 2), GRID // 2))

"""Near ties: decided by exact distances; equal distances go to the lowest cluster."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from job.kmeans.decisions import margins, nearest_exactly

_nearest = tf.function(nearest_exactly)


def nearest(images: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The clusters of images and centroids, both exact in float64."""
    images, squares = images.astype(np.float64), np.square(centroids).sum(axis=1)
    scores = squares - 2 * images @ centroids.T
    norms = np.sqrt(np.square(images).sum(axis=1))
    margin = margins(norms, squares, 1.0, images.shape[1])
    return _nearest(images, centroids, scores, margin).numpy()


def by_fractions(images: np.ndarray, centroids: np.ndarray) -> list[int]:
    def squared(image, centroid):
        return sum((Fraction(x) - Fraction(c)) ** 2 for x, c in zip(image, centroid, strict=True))

    found = []
    for image in images.astype(np.float64).tolist():
        distances = [squared(image, centroid) for centroid in centroids.tolist()]
        found.append(distances.index(min(distances)))
    return found


@pytest.mark.parametrize("far", [0.0, 1e3, 1e9])
def test_distances_that_float64_scores_cannot_tell_apart(far):
    rng = np.random.default_rng(0)
    centroids = far + rng.normal(size=(2, 9)) * 1e-3
    way = centroids[1] - centroids[0]
    images = (centroids.mean(axis=0) + rng.normal(size=(60, 1)) * way).astype(np.float32)
    centroids = np.concatenate([centroids, centroids[::-1], centroids + 1e-13 * far])
    assert nearest(images, centroids).tolist() == by_fractions(images, centroids)


def test_all_orders_of_the_same_differences_are_ties():
    """An image at (x, …, x) is as far from every permutation of a centroid."""
    orders = np.array(list(itertools.permutations([0.1, 0.7, 1 / 3, 1e-7, 2.5])))
    images = np.full((4, 5), np.array([[0.3], [1e3], [-2.0], [0.0]]))
    assert nearest(images, orders).tolist() == [0] * 4
    assert nearest(images, orders[::-1]).tolist() == [0] * 4


def test_one_centroid_and_no_image():
    assert nearest(np.ones((3, 2)), np.zeros((1, 2))).tolist() == [0, 0, 0]
    assert nearest(np.ones((0, 2)), np.zeros((3, 2))).tolist() == []


def test_a_centroid_far_away_spoils_nothing():
    centroids = np.array([[1e30, 0.0], [1.0, 0.0], [1.0 + 2.0**-40, 0.0]])
    images = np.array([[2.0, 0.0], [0.0, 0.0], [1e30, 0.0]])
    assert nearest(images, centroids).tolist() == [2, 1, 0]

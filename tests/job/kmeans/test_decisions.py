"""Near ties: decided by exact distances; equal distances go to the lowest cluster."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from job.kmeans.decisions import TENSORFLOW, near_ones, nearest_exactly
from pipeline.shards.decisions import doubts_of
from pipeline.shards.double_double import NUMPY, row_sums, squared_distance


@tf.function(reduce_retracing=True)
def _nearest(images, centroids, scores, norms, doubts):
    return nearest_exactly(images, centroids, near_ones(scores, norms, doubts), 1.0)


def nearest(images: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The clusters of images and centroids, both exact in float64."""
    images, squares = images.astype(np.float64), np.square(centroids).sum(axis=1)
    scores = squares - 2 * images @ centroids.T
    norms = np.sqrt(np.square(images).sum(axis=1))
    doubts = doubts_of(squares, 1.0, images.shape[1])
    return _nearest(images, centroids, scores, norms, doubts).numpy()


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


@pytest.mark.parametrize("d", [1, 2, 21, 64, 784])
def test_tensors_are_summed_alike_whatever_the_other_rows(d):
    """TensorFlow's optimiser reorders sums where it may, which depends on shapes that are known."""
    a, b = np.random.default_rng(d).normal(size=(2, 40, d))
    expected = squared_distance(a, b, NUMPY)
    whole, *_ = tf.function(lambda a, b: [row_sums(a * b, TENSORFLOW)], autograph=False)(a, b)
    np.testing.assert_allclose(whole, (a * b).sum(axis=1), rtol=1e-13, atol=1e-13)

    @tf.function(reduce_retracing=True, autograph=False)
    def graph(a, b):
        return *squared_distance(a, b, TENSORFLOW), row_sums(a * b, TENSORFLOW)

    for rows in (slice(1), slice(7, 30), slice(9, 9), slice(40)):
        high, low, sums = (part.numpy() for part in graph(a[rows], b[rows]))
        np.testing.assert_array_equal(high, expected[0][rows])
        assert (np.abs(low - expected[1][rows]) <= 2.0**-99 * high).all()
        np.testing.assert_array_equal(sums, whole[rows])

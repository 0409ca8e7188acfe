"""How well clusters are apart: against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import pdist
from sklearn import metrics as reference

from job.result import separation
from job.result.separation import davies_bouldin, nearest_others, silhouettes


@settings(deadline=None, max_examples=50)
@given(
    npst.arrays(
        np.float64, st.tuples(st.integers(12, 40), st.integers(1, 5)), elements=st.floats(-9, 9)
    ),
    st.integers(2, 6),
)
def test_davies_bouldin_equals_scikit_learn(images, num_clusters):
    clusters = np.arange(len(images)) % num_clusters
    centroids = np.array([images[clusters == c].mean(axis=0) for c in range(num_clusters)])
    distances = np.linalg.norm(images - centroids[clusters], axis=1)
    widths = np.bincount(clusters, distances) / np.bincount(clusters)
    expected = reference.davies_bouldin_score(images, clusters)
    # scikit-learn takes small distances for zero, and 0 between equal points for 1e-7 and more,
    # since it expands the square. So near, rounding decides either way.
    assume(pdist(centroids).min() > 0.1 and widths.max() > 0.1)
    assert davies_bouldin(centroids, widths) == pytest.approx(expected, rel=1e-5)


def test_davies_bouldin_by_hand():
    centroids = np.array([[0, 0], [3, 4], [0, 10]], np.float32)
    # Distances 5, 10 and √45; the pairs' overlaps are 3/5, 4/10 and 5/√45.
    overlaps = (3 / 5, 5 / math.sqrt(45), 5 / math.sqrt(45))
    expected = pytest.approx(sum(overlaps) / 3)
    assert davies_bouldin(centroids, np.array([1, 2, 3])) == expected


def test_davies_bouldin_of_one_cluster_and_of_equal_centroids_is_zero():
    assert davies_bouldin(np.ones((1, 4)), np.array([2.0])) == 0
    assert davies_bouldin(np.ones((2, 4)), np.array([2.0, 1.0])) == 0


def drawn(k: int) -> np.ndarray:
    """Centroids of few levels far from 0: many are as near to one as to another, some equal."""
    rng = np.random.default_rng(k)
    return (1e6 + rng.integers(0, 4, (k, 3)) / 8).astype(np.float32)


@pytest.mark.parametrize("k", [2, 9, 60])
def test_the_nearest_other_centroid_is_that_of_all_differences(monkeypatch, k):
    monkeypatch.setattr(separation, "PAIR_BYTES", 8 * k * 7)  # seven rows at a time
    monkeypatch.setattr(separation, "PAIRS", 5)
    centroids = drawn(k)
    apart = np.linalg.norm(centroids[:, None].astype(float) - centroids, axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest, distances = nearest_others(centroids)
    np.testing.assert_array_equal(nearest, apart.argmin(axis=1))
    np.testing.assert_allclose(distances, apart.min(axis=1))


@pytest.mark.parametrize("k", [2, 9, 60])
def test_davies_bouldin_is_that_of_all_differences(k):
    centroids, widths = drawn(k), np.random.default_rng(k).random(k)
    apart = np.linalg.norm(centroids[:, None].astype(float) - centroids, axis=2)
    both = widths[:, None] + widths
    overlap = np.divide(both, apart, out=np.zeros_like(both), where=apart > 0)
    assert davies_bouldin(centroids, widths) == pytest.approx(overlap.max(axis=1).mean())


@given(npst.arrays(np.float64, (12, 3), elements=st.floats(-9, 9)), st.integers(2, 5))
def test_simplified_silhouettes_equal_their_definition(points, num_clusters):
    apart = np.linalg.norm(points[:, None] - points[:num_clusters], axis=2)  # [n, k]
    own, second = np.sort(apart, axis=1)[:, :2].T
    expected = [(b - a) / max(a, b) if max(a, b) else 0.0 for a, b in zip(own, second, strict=True)]
    np.testing.assert_array_equal(silhouettes(own, second), expected)


def test_simplified_silhouettes_by_hand():
    own, second = np.array([1.0, 0.0, 2.0, 0.0]), np.array([4.0, 5.0, 2.0, 0.0])
    assert silhouettes(own, second).tolist() == [0.75, 1.0, 0.0, 0.0]

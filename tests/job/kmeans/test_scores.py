"""The nearest centroid of images: against an oracle, near ties, distances."""

import numpy as np
import oracle
import pytest
from drawn_sets import sets
from hypothesis import example, given, settings
from kmeans_graphs import assign, bytes_of

from job.images.rows import squared_pixel_norms
from job.kmeans import scores
from job.kmeans.blocks import images_per_block, stored
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import scorer_of, squared_distances
from pipeline.shards.pixel_scale import on_grid, units_of


@settings(max_examples=150, deadline=None)
@given(sets())
# Half a level from its centroid: a distance that float32 scores tell to a few percent.
@example((np.array([[97]], np.uint8), np.array([[97.5], [13]]) / 255))
def test_assignments_against_the_oracle(drawn):
    images, centroids = drawn
    units = units_of(images.dtype, images.shape[1])
    centroids = on_grid(centroids, units)
    clusters, gaps = assign(images, centroids)
    np.testing.assert_array_equal(
        clusters, oracle.nearest(images, centroids, round(1 / units.step))
    )
    distances = np.sort(np.linalg.norm(images[:, None] / 255 - centroids, axis=2), axis=1)
    assert (gaps >= 0).all()
    assert (gaps <= distances[:, 1] - distances[:, 0] + 1e-9).all()


def near_ties(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, centroids and the nearest of them, by less than float32 can see.

    Two centroids are the same but for two pixels, swapped, that differ by 2⁻²⁰: the image that is
    brighter where a centroid is brighter is nearer to that one, and between equal ones none is.
    """
    one = rng.integers(0, 2**10, d) / 2**10
    one[0], one[1] = 0.5, 0.5 + 2**-20
    other = one.copy()
    other[[0, 1]] = one[[1, 0]]
    images = bytes_of(rng, 300, d)
    images[:, 1] = np.clip(images[:, 0] + rng.integers(-1, 2, 300), 0, 255)
    darker = images[:, 0].astype(int) - images[:, 1]
    return images, np.array([one, other]), np.where(darker > 0, 1, 0)


@pytest.mark.parametrize("d", [2, 100, 784])
def test_near_ties_are_decided_exactly(d):
    images, centroids, nearest = near_ties(np.random.default_rng(d), d)
    clusters, gaps = assign(images, centroids)
    np.testing.assert_array_equal(clusters, nearest)
    assert (gaps < 1e-6).all()
    assert {0, 1} == set(clusters)
    clusters, _ = assign(images, centroids[::-1])
    tied = images[:, 0] == images[:, 1]
    np.testing.assert_array_equal(clusters, np.where(tied, 0, 1 - nearest))
    rows = np.flatnonzero(np.arange(300) % 7 == 3)
    clusters, _ = assign(images, centroids, rows)
    np.testing.assert_array_equal(clusters, nearest[rows])


def test_near_ties_are_decided_some_at_a_time(monkeypatch):
    monkeypatch.setattr(scores, "SCORED_BYTES", 7 * 8 * 2)
    images, centroids, nearest = near_ties(np.random.default_rng(0), 99)  # no other test's graph
    np.testing.assert_array_equal(assign(images, centroids)[0], nearest)


def test_equal_centroids_go_to_the_lowest():
    images = bytes_of(np.random.default_rng(0), 200, 50)
    centroids = np.random.default_rng(1).random((3, 50))
    clusters, gaps = assign(images, centroids[[2, 1, 1, 0, 2, 0]])
    assert set(clusters) <= {0, 1, 3}
    assert not gaps.any()


def test_near_ties_of_float_images_are_decided_in_float64():
    rng = np.random.default_rng(5)
    centroids = rng.normal(size=(2, 64))
    middle, way = centroids.mean(axis=0), centroids[1] - centroids[0]
    images = (middle + rng.normal(size=(400, 1)) * 1e-7 * way).astype(np.float32)
    exact = images.astype(np.float64)
    score = np.square(centroids).sum(axis=1) - 2 * exact @ centroids.T
    clusters, _ = assign(images, centroids)
    np.testing.assert_array_equal(clusters, score.argmin(axis=1))
    assert 100 < clusters.sum() < 300


def test_blocks_do_not_matter():
    rng = np.random.default_rng(6)
    images, centroids = bytes_of(rng, 2 * images_per_block(784) + 5, 784), rng.random((11, 784))
    whole, _ = assign(images, centroids)
    parts = [assign(part, centroids)[0] for part in np.array_split(images, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    distances = np.square(images / 255.0 - centroids[:, None]).sum(axis=2)
    np.testing.assert_array_equal(whole, distances.argmin(axis=0))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_distances_to_centroids(dtype):
    rng = np.random.default_rng(8)
    images = bytes_of(rng, 500, 30).astype(dtype)
    units = units_of(images.dtype, 30)
    centroids = on_grid(rng.random((4, 30)) * 255 / units.scale, units)
    centroids[0] = on_grid(images[:1] / units.scale, units)[0]
    clusters = rng.integers(0, 4, 500)
    clusters[0] = 0
    scorer = scorer_of(centroids, units, FLOAT32)
    norms = squared_pixel_norms(images)
    found = squared_distances(stored(images), norms, clusters, scorer, units).numpy()
    expected = np.square(images / units.scale - centroids[clusters]).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)

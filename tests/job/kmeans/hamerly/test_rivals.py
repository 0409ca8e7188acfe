"""Images in doubt against their rivals: bounds that hold, and clusters where these are apart."""

import numpy as np
import pytest
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import stored
from job.kmeans.hamerly import rivals
from job.kmeans.hamerly import screen as screens
from job.kmeans.hamerly.bounds import Bounds
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import scorer_of
from pipeline.shards.pixel_scale import on_grid, units_of

N, D = 500, 40


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("spread", [10, 80])  # few rivals; too many
@pytest.mark.parametrize("k", [50, 64])  # some groups of centroids are not full
def test_bounds_of_images_in_doubt(dtype, spread, k):
    rng = np.random.default_rng(k)
    middles = rng.integers(20, 236, (k, D)).astype(float)
    middles[1::2] = middles[::2] + rng.normal(0, 20, (k // 2, D))  # pairs
    images = np.clip(middles[rng.integers(0, k, N)] + rng.normal(0, spread, (N, D)), 0, 255)
    images = images.astype(dtype)
    units = units_of(images.dtype, D)
    published = images.astype(np.float64) / units.scale
    centroids = on_grid(np.clip(middles, 0, 255) / units.scale, units)
    centroids[7] = centroids[3]  # equally near to all
    distances = np.linalg.norm(published[:, None] - centroids, axis=2)
    # Own clusters are right, the other of a pair, or anything; bounds tell nothing.
    nearest, second = np.argsort(distances, axis=1, kind="stable")[:, :2].T
    own = np.choose(rng.integers(0, 3, N), [nearest, second, rng.integers(0, k, N)])
    doubt = np.argsort(own, kind="stable")[: N - 50]
    before = Bounds(
        own[doubt], np.full(len(doubt), np.inf, np.float32), np.zeros(len(doubt), np.float32)
    )
    norms = squared_pixel_norms(images)
    basis = screens.basis_of(centroids, centroids, *rng.standard_normal((2, D, 12)))
    rows, _ = screens.project(stored(images), norms, (), basis, units, FLOAT32)
    scorer = scorer_of(centroids, units, FLOAT32)
    screen = screens.screen_of(scorer, basis, units, FLOAT32)
    found, num_screened, cost = rivals.compared(
        tf.constant(stored(images)),
        rows,
        norms,
        tf.constant(doubt),
        Bounds(*map(tf.constant, before)),
        scorer,
        screen,
        units,
    )
    clusters, upper, lower = (part.numpy() for part in found)
    at = np.arange(len(doubt))
    mine = distances[doubt]
    others = mine.copy()
    others[at, clusters] = np.inf
    decided = upper < lower
    assert (upper >= mine[at, clusters]).all()
    assert (lower <= others.min(axis=1)).all()
    np.testing.assert_array_equal(clusters[decided], mine.argmin(axis=1)[decided])
    assert not np.isin(clusters[decided], (3, 7)).any()  # a tie is never decided here
    assert num_screened == len(doubt)  # no lower bound was of any use
    assert cost > 0
    if spread == 10:
        assert decided.mean() > 0.25  # where rivals are few
        assert (clusters != own[doubt])[decided].any()
    else:
        assert not decided.all()


def test_images_whose_bounds_are_apart_are_not_screened():
    images = np.repeat(np.array([[0], [200]], np.uint8), 20, axis=0).repeat(D, axis=1)
    units = units_of(images.dtype, D)
    centroids = on_grid(np.array([[0.1], [0.7], [0.2], [0.9]]).repeat(D, axis=1), units)
    norms = squared_pixel_norms(images)
    basis = screens.basis_of(centroids, centroids, *np.random.default_rng(0).random((2, D, 3)))
    rows, _ = screens.project(stored(images), norms, (), basis, units, FLOAT32)
    scorer = scorer_of(centroids, units, FLOAT32)
    screen = screens.screen_of(scorer, basis, units, FLOAT32)
    own = np.repeat([0, 1], 20)
    far = np.full(40, 1e3, np.float32)
    before = Bounds(*map(tf.constant, (own, far, far)))
    found, num_screened, cost = rivals.compared(
        tf.constant(images),
        rows,
        norms,
        tf.range(40, dtype=tf.int64),
        before,
        scorer,
        screen,
        units,
    )
    assert (num_screened, cost) == (0, 0)
    distances = np.linalg.norm(images[:, None] / 255 - centroids, axis=2)[np.arange(40), own]
    np.testing.assert_allclose(found.upper, distances, rtol=1e-3)  # no more than it has to be
    assert (found.upper.numpy() >= distances).all()
    np.testing.assert_array_equal(found.lower, far)


def test_no_image_in_doubt():
    images = tf.zeros([3, D], tf.uint8)
    units = units_of(np.dtype("uint8"), D)
    centroids = on_grid(np.random.default_rng(0).random((4, D)), units)
    basis = screens.basis_of(centroids, centroids, *np.random.default_rng(0).random((2, D, 3)))
    scorer = scorer_of(centroids, units, FLOAT32)
    screen = screens.screen_of(scorer, basis, units, FLOAT32)
    none = tf.zeros([0], tf.int64)
    before = Bounds(none, tf.zeros([0]), tf.zeros([0]))
    found, num_screened, cost = rivals.compared(
        images, tf.zeros([3, 5]), tf.zeros([3], tf.float64), none, before, scorer, screen, units
    )
    assert [part.shape[0] for part in found] == [0, 0, 0]
    assert (num_screened, cost) == (0, 0)

"""Two bounds of each image, which hold whatever centroids do."""

import numpy as np
import pytest
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import stored
from job.kmeans.hamerly import bounds as bounding
from job.kmeans.hamerly import screen as screens
from job.kmeans.hamerly.bounds import Bounds
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import Assignment, scorer_of
from pipeline.shards.pixel_scale import on_grid, units_of


def test_moves_are_measured_and_the_farthest_set_apart():
    before = np.zeros((10, 2))
    after = before.copy()
    after[[3, 8, 5], 0] = 4, -3, 1
    moves = bounding.moves_of(after, before)
    assert moves.fast.tolist() == [3, 8]  # a fifth of them
    assert moves.places.tolist() == [-1, -1, -1, 0, -1, -1, -1, -1, 1, -1]
    assert not moves.still.any()
    exact = np.abs(after[:, 0])
    assert (moves.of_own >= exact).all()
    np.testing.assert_allclose(moves.of_own, exact, rtol=1e-5)
    assert moves.of_slow == moves.of_own[5]
    alone = bounding.moves_of(after[3:4], before[3:4])
    assert (alone.fast.tolist(), alone.of_slow) == ([0], 0)


def test_what_did_not_move_is_known():
    before = np.zeros((20, 2))
    after = before.copy()
    after[7, 1], after[9, 0] = -2, 1e-200
    moves = bounding.moves_of(after, before)
    # A move too small to be measured is a move.
    assert {*moves.fast[~moves.still[:, 0]]} <= {7, 9}
    assert moves.fast[0] == 7
    assert moves.still.shape == (4, 1)


def test_a_move_is_rounded_up():
    after = np.random.default_rng(0).random((500, 3))
    moves = bounding.moves_of(after, np.zeros((500, 3)))
    assert (moves.of_own.astype(np.float64) > np.linalg.norm(after, axis=1)).all()


def test_unknown_bounds_overlap():
    found = bounding.unknown(4)
    assert found.clusters.tolist() == [-1] * 4
    assert (found.upper >= found.lower).all()


def test_the_gap_of_an_assignment_bounds_all_others():
    gaps = tf.constant([0.0, 2.5], tf.float32)
    found = bounding.known(Assignment(tf.constant([4, 1], tf.int64), gaps))
    assert found.clusters.numpy().tolist() == [4, 1]
    assert found.lower.numpy().tolist() == [0, 2.5]
    assert np.isinf(found.upper).all()


def test_what_is_found_replaces_the_bounds_of_its_rows():
    old = Bounds(tf.range(4, dtype=tf.int64), tf.fill([4], 9.0), tf.zeros([4]))
    found = Bounds(tf.constant([7, 8], tf.int64), tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0]))
    new = bounding.updated(old, tf.constant([3, 1], tf.int64), found)
    assert [part.numpy().tolist() for part in new] == [
        [0, 8, 2, 7],
        [9, 2, 9, 1],
        [0, 4, 0, 3],
    ]


def test_distances_are_rounded_to_the_side_of_their_bound():
    rng = np.random.default_rng(1)
    norm = rng.random(2000).astype(np.float32) * 10
    distance = rng.random(2000)
    score = (distance**2 - norm.astype(np.float64) ** 2).astype(np.float32)
    exact = np.sqrt(np.maximum(0, norm.astype(np.float64) ** 2 + score))
    lower, upper = (f(norm, score).numpy() for f in (bounding.at_least, bounding.at_most))
    assert (lower <= exact).all()
    assert (upper >= exact).all()
    assert (upper**2 - lower**2).max() < 1e-4


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("step", [0.0, 0.01, 0.3])
def test_bounds_hold_after_centroids_moved(dtype, step):
    rng, k, d = np.random.default_rng(2), 15, 24
    images = rng.integers(0, 256, (400, d)).astype(dtype)
    units = units_of(images.dtype, d)
    published = images.astype(np.float64) / units.scale
    before = on_grid(published[:k], units)
    moved = np.clip(published[:k] + step * rng.pareto(2, (k, 1)) * rng.normal(size=(k, d)), 0, 1)
    after = on_grid(moved if dtype == "uint8" else published[:k] + 255 * (moved - before), units)
    distances = [np.linalg.norm(published[:, None] - c, axis=2) for c in (before, after)]
    order = np.argsort(distances[0], axis=1)
    own = order[:, 0]
    nearest, second = np.sort(distances[0], axis=1)[:, :2].T
    held = Bounds(
        own,
        np.nextafter(nearest.astype(np.float32), np.float32(np.inf)),
        np.nextafter(second.astype(np.float32), np.float32(0)),
    )
    basis = screens.basis_of(after, before, *rng.standard_normal((2, d, 8)))
    norms = squared_pixel_norms(images)
    rows, _ = screens.project(stored(images), norms, (), basis, units, FLOAT32)
    screen = screens.screen_of(scorer_of(after, units, FLOAT32), basis, units, FLOAT32)
    moves = bounding.moves_of(after, before)
    found = bounding.moved(held, rows, norms, moves, screen, units)
    at = np.arange(400)
    np.testing.assert_array_equal(found.clusters, own)
    assert (found.upper.numpy() >= distances[1][at, own]).all()
    others = distances[1].copy()
    others[at, own] = np.inf
    assert (found.lower.numpy() <= others.min(axis=1)).all()
    if step == 0 and dtype == "uint8":  # nothing moved, nothing is lost
        np.testing.assert_allclose(found.lower, held.lower, rtol=1e-5)

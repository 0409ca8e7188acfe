"""The screen's bounds against exact distances, for any basis and with shortened factors."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import stored
from job.kmeans.hamerly import screen as screens
from job.kmeans.precision import FLOAT32, TF32, Precision
from job.kmeans.scores import scorer_of
from pipeline.shards.pixel_scale import Units, on_grid, units_of

D = 42


class Screened(NamedTuple):
    """A small set, its screen, and what the screen's bounds are of.

    Attributes:
      exact: ‖y − c‖² − ‖y‖², float64 [n, k].
    """

    screen: screens.Screen
    basis: screens.Basis
    rows: tf.Tensor
    squared_norm: np.ndarray
    units: Units
    exact: np.ndarray


def screened(dtype: str, k: int, columns: int, precision: Precision = FLOAT32) -> Screened:
    rng = np.random.default_rng(k)
    published = np.clip(
        rng.random((k, D))[rng.integers(0, k, 300)] + rng.normal(0, 0.1, (300, D)), 0, 1
    )
    images = np.rint(published * 255).astype(np.uint8) if dtype == "uint8" else published
    images = images.astype(dtype)
    units = units_of(images.dtype, D)
    centroids = on_grid(published[:k], units)
    before = on_grid(published[k : 2 * k], units)
    start, directions = rng.standard_normal((2, D, columns))
    basis = screens.basis_of(centroids, before, start, directions)
    squared_norm = squared_pixel_norms(images)
    rows, _ = screens.project(stored(images), squared_norm, (), basis, units, precision)
    scorer = scorer_of(centroids, units, precision)
    screen = screens.screen_of(scorer, basis, units, precision)
    exact = np.square(centroids).sum(axis=1) - 2 * (images / units.scale) @ centroids.T
    return Screened(screen, basis, rows, squared_norm, units, exact)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("precision", [FLOAT32, TF32], ids=["float32", "tf32"])
@pytest.mark.parametrize(("k", "columns"), [(3, 10), (30, 10), (1, 1)])
def test_bounds_hold_from_both_sides(dtype, precision, k, columns):
    case = screened(dtype, k, columns, precision)
    lower = screens.lower_bounds(case.rows, case.screen).numpy().astype(np.float64)
    rest = case.rows[:, -2:-1].numpy()
    upper = lower + case.screen.widths.numpy() * rest
    index = tf.range(300, dtype=tf.int64)
    norm = screens.image_norms(case.squared_norm, index, case.units).numpy()
    np.testing.assert_allclose(norm * case.units.scale, np.sqrt(case.squared_norm), rtol=1e-6)
    relative, absolute = case.screen.rounding.numpy()
    margin = (relative * norm + absolute)[:, None]
    assert (lower - margin <= case.exact).all()
    assert (upper + margin >= case.exact).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_basis_that_spans_the_centroids_gives_their_distances(dtype):
    case = screened(dtype, 3, 10)
    lower = screens.lower_bounds(case.rows, case.screen).numpy()
    np.testing.assert_allclose(lower, case.exact, atol=1e-4)
    assert case.screen.widths.numpy().max() < 1e-4


def test_more_columns_make_tighter_bounds():
    widths = [screened("uint8", 30, columns).screen.widths for columns in (5, 20)]
    assert widths[1].numpy().mean() < widths[0].numpy().mean()


@pytest.mark.parametrize(("k", "columns"), [(3, 10), (30, 10), (1, 1)])
def test_a_basis_is_orthonormal(k, columns):
    basis = screened("uint8", k, columns).basis
    v = basis.columns.numpy().astype(np.float64)
    assert v.shape == (D, columns)
    np.testing.assert_allclose(v.T @ v, np.eye(columns), atol=1e-6)
    np.testing.assert_allclose(basis.gram, v.T @ v, atol=1e-15)
    assert basis.spread >= np.linalg.norm(np.abs(v), 2)


def test_columns_that_centroids_leave_free_take_the_leading_directions_of_images():
    rng = np.random.default_rng(0)
    centroids = np.zeros((2, D))
    centroids[0, 0] = centroids[1, 1] = 1
    directions = rng.normal(0, 1e-3, (D, 6))
    directions[7] += 1
    basis = screens.basis_of(centroids, np.zeros((2, D)), rng.standard_normal((D, 6)), directions)
    spanned = np.square(basis.columns.numpy()[[0, 1, 7]]).sum(axis=1)
    np.testing.assert_allclose(spanned, 1, atol=1e-3)


def test_leading_directions_are_those_in_which_images_spread():
    rng = np.random.default_rng(1)
    images = np.full((500, D), 100) + rng.integers(-1, 2, (500, D))
    images[:, 7] += rng.integers(-90, 90, 500)
    probes = rng.standard_normal((D, 4)).astype(np.float32)
    found = screens.leading(tf.constant(stored(images.astype(np.uint8))), tf.constant(probes))
    assert found.shape == (D, 4)
    shares = np.square(found.numpy()) / np.square(found.numpy()).sum(axis=0)
    assert (shares[7] > 0.99).all()


def test_no_image_has_no_direction():
    probes = np.ones((D, 4), np.float32)
    found = screens.leading(tf.zeros([0, 44], tf.uint8), tf.constant(probes))
    np.testing.assert_array_equal(found, np.zeros((D, 4)))


@pytest.mark.parametrize("k", [2, 1000, 10**6])
def test_the_bounds_of_a_block_fit_the_cache(k):
    weights = tf.zeros([k, 48])
    rows = screens.screened_per_block(screens.Screen(weights, tf.zeros([k]), tf.zeros([2])))
    assert 256 <= rows <= 16_384
    assert rows == 256 or 4 * rows * max(k, 48) <= screens.SCREEN_BYTES

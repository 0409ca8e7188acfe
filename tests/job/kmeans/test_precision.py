"""Margins hold where products round as they do on tensor cores: factors shortened to 11 bits.

No GPU is needed for that: the products are made of factors that were shortened before.
"""

import numpy as np
import pytest
import tensorflow as tf
from kmeans_graphs import bytes_of

from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import stored
from job.kmeans.halves import halves_of
from job.kmeans.precision import FLOAT32, FLOAT32_ROUNDING, TF32, Precision, pixel_factors
from job.kmeans.scores import nearest_centroids, rounded_weights, scorer_of
from pipeline.shards.pixel_scale import on_grid, units_of

KEPT_BITS = 11  # of the 24 of a float32 number
DROPPED_BITS = 24 - KEPT_BITS
ROUNDINGS = {"nearest": 1 << (DROPPED_BITS - 1), "cut off": 0}  # what is added before the cut


def shortened(factor: tf.Tensor, rounding: str) -> tf.Tensor:
    """A float32 tensor with `KEPT_BITS` significant bits."""
    bits = tf.bitcast(factor, tf.int32) + ROUNDINGS[rounding]
    return tf.bitcast(tf.bitwise.bitwise_and(bits, -1 << DROPPED_BITS), tf.float32)


@pytest.fixture(params=ROUNDINGS)
def tensor_cores(request, monkeypatch):
    """Shortens the factors of all float32 products of matrices; how."""
    exact = tf.linalg.matmul

    def product(a, b, **how):
        a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
        if a.dtype == tf.float32:
            a, b = (shortened(factor, request.param) for factor in (a, b))
        return exact(a, b, **how)

    for module in (tf, tf.linalg):
        monkeypatch.setattr(module, "matmul", product)
    return request.param


def close_set(dtype: str, n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, d], and centroids [k, d] so close to each other that TF32 confuses many."""
    rng = np.random.default_rng(d)
    images = bytes_of(rng, n, d)
    units = units_of(np.dtype(dtype), d)
    middle = rng.random(d)
    centroids = np.clip(middle + rng.normal(0, 1e-4, (k, d)), 0, 1)
    if dtype == "float32":
        images, centroids = (images / 255 - 0.4), centroids - 0.4
    return images.astype(dtype), on_grid(centroids, units)


def exact_scores(images: np.ndarray, centroids: np.ndarray, scale: float) -> np.ndarray:
    """scale · ‖c‖² − 2 x·c, float64 [n, k]."""
    products = images.astype(np.float64) @ centroids.T
    return scale * np.square(centroids).sum(axis=1) - 2 * products


def scores_of(images: np.ndarray, scorer) -> np.ndarray:
    """Scores in float32, as `nearest_two` makes them; float32 [n, k]."""
    weights, bias = rounded_weights(scorer, tf.constant(images))
    pixels = images.astype(np.float32)
    parts = [tf.linalg.matmul(pixels, part, transpose_b=True) for part in weights]
    return (tf.add_n(parts) + bias).numpy()


def assign(images: np.ndarray, centroids: np.ndarray, precision: Precision):
    """Clusters, gaps [n] of `nearest_centroids` in a graph that nobody else calls."""
    units = units_of(images.dtype, images.shape[1])
    scorer = scorer_of(centroids, units, precision)
    run = tf.function(nearest_centroids, autograph=False)
    found = run(stored(images), squared_pixel_norms(images), scorer, units)
    return [part.numpy() for part in found]


def test_shortened_numbers_have_eleven_bits():
    numbers = tf.constant([1, 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.9999, 255], tf.float32)
    nearest = shortened(numbers, "nearest").numpy()
    assert nearest.tolist() == [1, 1 + 2**-10, 1 + 2**-10, 1, -4, 255]
    cut = shortened(numbers, "cut off").numpy()
    assert cut.tolist() == [1, 1 + 2**-10, 1, 1, -(4 - 2**-9), 255]
    pixels = np.arange(256, dtype=np.float32)
    for rounding in ROUNDINGS:
        np.testing.assert_array_equal(shortened(pixels, rounding), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("d", [3, 64, 784])
def test_two_scores_are_off_by_no_more_than_the_margin(tensor_cores, dtype, d):
    images, centroids = close_set(dtype, 500, d, 20)
    units = units_of(images.dtype, d)
    scorer = scorer_of(centroids, units, TF32)
    off = scores_of(images, scorer).astype(np.float64) - exact_scores(
        images, centroids, units.scale
    )
    margin = scorer.margin[0] * np.linalg.norm(images.astype(np.float64), axis=1)
    margin += scorer.margin[1]
    between_two = off.max(axis=1) - off.min(axis=1)
    assert (between_two <= margin).all()
    either = np.abs(off).max(axis=1)
    assert (2 * either <= margin).all()
    assert either.max() > 2.0**-14 * margin.max()  # what was shortened is seen


def test_factors_that_lose_all_they_can_stay_within_the_margin(tensor_cores):
    """The worst case: every factor is cut by nearly its last kept bit, and no errors cancel."""
    d = 100
    # Weights −2c and pixels whose dropped bits are all ones.
    worst = 1 + 2.0**-11 + 2.0**-12 + 2.0**-13 + 2.0**-14
    units = units_of(np.dtype("float32"), d)
    images = np.full((1, d), worst, np.float32)
    centroids = on_grid(np.full((1, d), worst / 2), units)
    scorer = scorer_of(centroids, units, TF32)
    off = abs(float(scores_of(images, scorer)[0, 0]) - exact_scores(images, centroids, 1)[0, 0])
    margin = scorer.margin[0] * np.linalg.norm(images.astype(np.float64)) + scorer.margin[1]
    least = 0.8 if tensor_cores == "cut off" else 0.05
    assert least * margin < 2 * off <= margin  # the bound is as tight as it may be
    whole = scorer_of(centroids, units, FLOAT32).margin
    assert 2 * off > 10 * (whole[0] * np.linalg.norm(images.astype(np.float64)) + whole[1])


def test_bytes_are_told_apart_in_halves_nearly_as_well_as_in_float32(tensor_cores):
    images, centroids = close_set("uint8", 500, 784, 20)
    units = units_of(images.dtype, 784)
    whole, halves = (scorer_of(centroids, units, precision) for precision in (FLOAT32, TF32))
    assert (halves.margin < 8 * whole.margin).all()
    exact = exact_scores(images, centroids, units.scale)
    off, without = (np.abs(scores_of(images, s) - exact).max() for s in (halves, whole))
    # Float32 weights lose all but 11 bits there; how sums are rounded, each processor does its way.
    assert off < without / 20


def test_halves_are_the_weights_to_the_bit():
    weights = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    weights[0, :4] = 0, -0.0, 1 + 2.0**-23, 2.0**-120
    high, low = halves_of(weights)
    np.testing.assert_array_equal(high + low, weights)
    np.testing.assert_array_equal(high, shortened(tf.constant(weights), "cut off"))
    assert (np.abs(low) <= 2.0**-10 * np.abs(weights)).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_near_ties_are_decided_exactly_whatever_is_cut(tensor_cores, dtype):
    images, centroids = close_set(dtype, 2000, 64, 20)
    units = units_of(images.dtype, 64)
    squared = np.square(images[:, None] / units.scale - centroids).sum(axis=2)
    clusters, gaps = assign(images, centroids, TF32)
    np.testing.assert_array_equal(clusters, squared.argmin(axis=1))
    nearest, second = np.sqrt(np.sort(squared, axis=1)[:, :2]).T
    assert (gaps <= second - nearest).all()
    careless, _ = assign(images, centroids, FLOAT32)
    assert (careless != clusters).any()  # so it is the margin that decides


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_wider_margin_changes_no_assignment(dtype):
    images, centroids = close_set(dtype, 2000, 64, 20)
    (clusters, gaps), (wide, narrow) = (assign(images, centroids, p) for p in (FLOAT32, TF32))
    np.testing.assert_array_equal(wide, clusters)
    assert (narrow <= gaps).all()


def test_the_bound_of_a_product():
    assert FLOAT32.of_product(10, 2) == 10 * FLOAT32_ROUNDING
    assert TF32.of_product(10, 1) == 40 * FLOAT32_ROUNDING + 2.0**-10
    assert TF32.of_product(10, 2) == 40 * FLOAT32_ROUNDING + 2 * 2.0**-10
    assert Precision(0.5, 0.25).of_product(3, 2) == 1.75


def test_bytes_lose_nothing():
    steps = [units_of(np.dtype(name), 9).step for name in ("uint8", "float32")]
    assert [pixel_factors(step) for step in steps] == [1, 2]

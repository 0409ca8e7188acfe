"""Centroids in pieces: their arithmetic, bounds of their scores, and the probe of a processor."""

import numpy as np
import pytest
import tensorflow as tf
from integer_products import emulated
from kmeans_graphs import bytes_of

from job.kmeans import pieces
from job.kmeans.blocks import stored
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import scorer_of
from pipeline.shards.pixel_scale import on_grid, squared_norms, units_of

CENTROIDS = {
    "any": lambda rng, k, d: rng.random((k, d)),
    "black": lambda rng, k, d: np.zeros((k, d)),
    "white": lambda rng, k, d: np.ones((k, d)),
    "checked": lambda rng, k, d: np.indices((k, d)).sum(axis=0) % 2 * 1.0,
    "dark": lambda rng, k, d: rng.random((k, d)) / 1000,
    "one pixel": lambda rng, k, d: np.where(np.arange(d) == 0, 1, rng.random((k, d)) / 300),
    "between pieces": lambda rng, k, d: np.where(np.arange(d), 0.5 / 127, 1.0) * np.ones((k, 1)),
}


@pytest.mark.parametrize("largest", [127, 63, 5])
@pytest.mark.parametrize("d", [1, 3, 64, 785])
@pytest.mark.parametrize("kind", CENTROIDS)
def test_scores_are_off_by_no_more_than_the_bound(emulated_integers, kind, d, largest):
    rng = np.random.default_rng(d)
    units = units_of(np.dtype(np.uint8), d)
    centroids = on_grid(CENTROIDS[kind](rng, 6, d), units)
    bias = units.scale * squared_norms(centroids, units)
    made, error = pieces.pieces_of(centroids, bias, units.scale, largest)
    assert max(np.abs(part.astype(int)).max() for part in (made.high, made.low)) <= largest
    images = np.concatenate([bytes_of(rng, 50, d), np.full((1, d), 255, np.uint8)])
    scores = pieces.products(tf.constant(stored(images)), made).numpy().astype(np.float64)
    exact = bias - 2 * images.astype(np.float64) @ centroids.T
    norms = np.linalg.norm(images.astype(np.float64), axis=1)[:, None]
    off = np.abs(scores * made.unit - exact)
    assert (off <= error.relative * norms + error.absolute).all()
    if kind == "any":  # that bound tells images apart
        distances = norms**2 / units.scale + exact
        assert (error.relative * norms).max() < 4 / largest**2 * distances.mean()


def test_two_pieces_leave_as_little_open_as_float32():
    rng = np.random.default_rng(0)
    units = units_of(np.dtype(np.uint8), 784)
    centroids = on_grid(rng.random((20, 784)), units)
    floats, integers = (
        scorer_of(centroids, units, FLOAT32._replace(largest_piece=largest)) for largest in (0, 127)
    )
    assert floats.pieces is None
    assert integers.pieces is not None
    norm = np.float32(140 * 28)  # of an image as bright as these centroids
    assert integers.margin @ [norm, 1] < floats.margin @ [norm, 1]


def test_vectors_and_very_large_images_have_float32_products():
    integers = FLOAT32._replace(largest_piece=127)
    assert pieces.fits(127, 66_311)
    assert not pieces.fits(127, 66_312)
    assert 66_311 * 255 * 127 < 2**31 <= 66_312 * 255 * 127
    assert not pieces.fits(0, 784)
    floats = units_of(np.dtype(np.float32), 3)
    assert scorer_of(np.ones((2, 3)), floats, integers).pieces is None
    large = units_of(np.dtype(np.uint8), 66_312)
    assert scorer_of(np.ones((1, 66_312)), large, integers).pieces is None


def test_there_are_few_shapes_of_products():
    sizes = {int(pieces.rows_per_product(k)) for k in range(1, 20_000, 7)}
    assert all(size % pieces.ROWS == 0 for size in sizes)
    assert max(sizes) == pieces.MOST_ROWS
    assert min(sizes) == pieces.ROWS
    for count in (0, 1, 255, 256, 257, 1000):
        rows = pieces.padded(tf.range(count) + 5).numpy()
        assert len(rows) == -(-count // pieces.ROWS) * pieces.ROWS
        assert rows[:count].tolist() == list(range(5, 5 + count))
        assert not rows[count:].any()


def saturating(images, piece, bias, fraction):
    """As AVX2 multiplies: sums of two products stay within 16 bits."""
    products = images.astype(np.int64)[:, :, None] * np.asarray(piece, np.int64)
    pairs = np.clip(products[:, ::2] + products[:, 1::2], -(2**15), 2**15 - 1)
    return tf.constant((fraction * pairs.sum(axis=1) + bias).astype(np.float32))


def stale(images, piece, bias, fraction, seen=[]):  # noqa: B006
    """As a kernel that keeps the weights of its first call."""
    seen.append(piece)
    return emulated(images, seen[0], bias, fraction)


def without_bias(images, piece, bias, fraction):
    return emulated(images, piece, np.zeros_like(bias), fraction)


def empty(images, piece, bias, fraction):
    return tf.zeros([0])


def missing(images, piece, bias, fraction):
    raise tf.errors.InternalError(None, None, "Missing 0-th output")


@pytest.mark.parametrize(
    ("product", "largest"),
    [
        (emulated, {127, 63}),
        (saturating, {63}),
        (stale, set()),
        (without_bias, set()),
        (empty, set()),
    ],
)
def test_wrong_products_are_found(monkeypatch, product, largest):
    monkeypatch.setattr(pieces, "multiply", product)
    assert {most for most in (127, 63) if pieces.is_exact(most)} == largest


@pytest.mark.parametrize(
    ("product", "seconds", "found"),
    [
        (emulated, (0.1, 1.04), (127, 10)),
        (emulated, (0.6, 1.0), (127, 2)),
        (emulated, (0.7, 1.0), (0, 0)),  # two of them would take longer
        (saturating, (0.1, 1.0), (0, 0)),
        (missing, (0.1, 1.0), (0, 0)),
    ],
)
def test_a_processor_without_fast_and_exact_products_falls_back(
    monkeypatch, product, seconds, found
):
    times = iter(seconds)
    monkeypatch.setattr(pieces, "multiply", product)
    monkeypatch.setattr(pieces, "_least_seconds", lambda _: next(times))
    assert pieces.byte_products.__wrapped__() == found


def test_the_probe_of_this_processor_ends_in_silence(capfd):
    largest, speed = pieces.byte_products.__wrapped__()
    assert (largest, speed) == (0, 0) or (largest == 127 and speed >= pieces.LEAST_SPEED)
    assert capfd.readouterr() == ("", "")

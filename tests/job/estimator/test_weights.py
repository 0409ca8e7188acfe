"""Weights: whole numbers are repeated rows, to the bit; others are what they say on their grid."""

import numpy as np
import pytest

from job.distribute.replicas import local_replicas
from job.estimator.weights import Inertia, images_of
from job.images import weighted as weighing
from job.images.array import Graphs, weights_entry
from job.images.weighted import in_units, unit_of
from job.kmeans.init import random_images
from kmeans_job import KMeans

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(0, 6, 300)
WEIGHTS[:3] = 50
SETS = {
    "bytes": RNG.integers(0, 256, (300, 6), dtype=np.uint8),
    "floats": (RNG.normal(size=(300, 6)) * 3 + 50).astype(np.float32),
    "far away": RNG.normal(size=(300, 6)) + 1e9,
}


def on_grid(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights in their unit, and the unit."""
    unit = unit_of(weights_entry(weights), len(weights))
    return in_units(weights, unit), unit


def bits(kmeans: KMeans) -> tuple:
    history = [{**record, "seconds": None} for record in kmeans.history_]
    return kmeans.cluster_centers_.tobytes(), kmeans.inertia_, history


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "options",
    [
        {"init": "k-means++", "algorithm": "hamerly", "n_clusters": 40},
        {"init": "random", "algorithm": "lloyd", "n_clusters": 40},
        pytest.param(
            {"init": "k-means||", "algorithm": "lloyd", "n_clusters": 5, "replicas": 2},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda options: options["init"],
)
def test_whole_weights_are_repeated_rows(cpus, name, options):
    X = SETS[name]
    weighted = KMeans(**options).fit(X, sample_weight=WEIGHTS)
    repeated = KMeans(**options).fit(np.repeat(X, WEIGHTS, axis=0))
    assert bits(weighted) == bits(repeated)
    np.testing.assert_array_equal(np.repeat(weighted.labels_, WEIGHTS), repeated.labels_)
    np.testing.assert_array_equal(weighted.labels_, weighted.predict(X))
    assert weighted.score(X, sample_weight=WEIGHTS) == -weighted.inertia_
    if options["init"] == "random":
        assert any(record["empty"] for record in weighted.history_)


def test_weights_of_one_are_none(cpus):
    X = SETS["floats"]
    assert bits(KMeans(4).fit(X, sample_weight=np.ones(300))) == bits(KMeans(4).fit(X))
    assert bits(KMeans(4).fit(X, sample_weight=1)) == bits(KMeans(4).fit(X))


@pytest.mark.parametrize("name", ["bytes", "floats"])
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_other_weights(cpus, name, init):
    X, weights = SETS[name], RNG.random(300)
    kmeans = KMeans(30, init=init).fit(X, sample_weight=weights)
    units, unit = on_grid(weights)
    for cluster in range(30):
        rows = kmeans.labels_ == cluster
        mean = np.average(X[rows].astype(np.float64), axis=0, weights=units[rows])
        np.testing.assert_allclose(kmeans.cluster_centers_[cluster], mean, rtol=1e-6)
    squared = np.square(X[:, None].astype(np.float64) - kmeans.cluster_centers_).sum(axis=2)
    inertia = (squared.min(axis=1) * units).sum() * unit
    assert kmeans.inertia_ == pytest.approx(inertia, rel=1e-9)
    assert kmeans.history_[-1]["inertia"] == pytest.approx(inertia, rel=1e-5)
    halved = KMeans(30, init=init, replicas=2).fit(X, sample_weight=weights / 2)
    np.testing.assert_array_equal(halved.cluster_centers_, kmeans.cluster_centers_)
    assert halved.inertia_ == kmeans.inertia_ / 2


def test_a_row_without_a_weight_decides_nothing(cpus):
    X = np.array([[0.0], [1], [10], [11], [1e6]])
    kmeans = KMeans(2).fit(X, sample_weight=[1, 0.5, 1, 0.25, 0])
    assert sorted(kmeans.cluster_centers_.ravel()) == pytest.approx([0.5 / 1.5, 10.2])
    assert kmeans.labels_[4] == kmeans.labels_[3]


def test_many_copies_are_weights(cpus, monkeypatch):
    monkeypatch.setattr(weighing, "MOST_COPIES", 100)
    X = SETS["bytes"]
    kmeans = KMeans(3).fit(X, sample_weight=WEIGHTS)
    means = [
        np.average(X[kmeans.labels_ == c], axis=0, weights=WEIGHTS[kmeans.labels_ == c])
        for c in range(3)
    ]
    np.testing.assert_allclose(kmeans.cluster_centers_, means, rtol=1e-6)


def test_rows_are_drawn_in_proportion_to_their_weights(cpus):
    pixels, weights = np.arange(3, dtype=np.uint8)[:, None], np.array([0.5, 1.5, 6])
    images = images_of(pixels, weights, Graphs(local_replicas(1)), None)
    drawn = [random_images(images, 1, seed, "draw")[0, 0] for seed in range(400)]
    # Of 400 draws 25, 75 and 300 are expected; the bounds are five standard deviations away.
    found = np.bincount(drawn, minlength=3)
    assert (np.abs(found - [25, 75, 300]) < 5 * np.sqrt([24, 61, 75])).all()


def test_the_grid():
    units, unit = on_grid(np.array([3.0, 0, 7]))
    assert (units.tolist(), unit) == ([3, 0, 7], 1)
    units, unit = on_grid(np.array([0.75, 1e-9, 0.1]))
    assert unit == 2.0**-20
    assert units.tolist() == [0.75 * 2**20, 0, round(0.1 * 2**20)]
    units, unit = on_grid(np.array([2.0**30, 1]))
    assert (units.tolist(), unit) == ([2**19, 0], 2.0**11)
    # Sums of the bytes of very many rows stay exact.
    entry = weights_entry(np.array([3.0, 2**20]))
    assert [unit_of(entry, rows) for rows in (1 << 25, 1 << 26)] == [1, 4]
    assert unit_of(weights_entry(np.array([0.75])), 1 << 30) == 2.0**-15


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_inertia_of_no_row_is_0(dtype):
    assert Inertia(np.zeros((2, 3)), 255 if dtype == "uint8" else 1.0).value() == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"sample_weight.shape == \(2,\), expected \(300,\)!"),
        (-np.arange(300), "sample_weight: negative values, such as -299"),
        (np.zeros(300), "sample_weight: all weights are zero; give at least one other number"),
        (np.full(300, np.nan), "Input sample_weight contains NaN"),
        (WEIGHTS * (np.arange(300) < 2), "n_clusters=8: the set has only 2 distinct images"),
    ],
)
def test_wrong_weights(cpus, weights, message):
    with pytest.raises(ValueError, match=message):
        KMeans().fit(SETS["bytes"], sample_weight=weights)

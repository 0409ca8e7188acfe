"""All algorithms have one answer, from four points by hand to scikit-learn."""

import itertools

import numpy as np
import oracle
import pytest
import shard_set
from kmeans_graphs import PRUNED
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from job import hashing
from job.kmeans import ALGORITHMS, hamerly


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_four_points(fit, make_shards, algorithm):
    points = np.array([[0, 7], [2, 7], [10, 7], [12, 7]], np.uint8)
    result = fit(make_shards(points), 2, init=points[:2] / 255, algorithm=algorithm)
    # {0} {2 10 12} → 0, 8; {0 2} {10 12} → 1, 11; the same again.
    assert result.metrics["iterations"] == 3
    assert result.metrics["converged"]
    assert result.clusters.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(result.centroids * 255, [[1, 7], [11, 7]], rtol=1e-6)
    assert [line["changed"] for line in result.history] == [4, 1, 0]
    expected = {"inertia": [36 + 4 + 16, 4, 4], "shift": [36, 1 + 9, 0]}
    for name, values in expected.items():
        found = [line[name] * 255**2 for line in result.history]
        np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6)


CONFIGURATIONS = [
    # n, d, k, levels of a pixel, copies, pixels that are constant, centroids that start empty
    (1, 1, 1, 256, 1, 0, 0),
    (7, 1, 3, 256, 1, 0, 0),
    (40, 2, 5, 4, 1, 0, 0),
    (40, 2, 5, 256, 3, 0, 2),
    (60, 5, 1, 256, 1, 0, 0),
    (60, 5, 59, 256, 1, 0, 0),
    (60, 16, 4, 2, 1, 0, 0),
    (50, 16, 12, 256, 2, 9, 3),
    (90, 33, 7, 256, 1, 0, 0),
    (150, 64, 10, 3, 1, 30, 1),
]


@pytest.mark.parametrize(
    ("algorithm", "many"), [*((each, 200) for each in ALGORITHMS), ("hamerly", 0)]
)
@pytest.mark.parametrize("shape", CONFIGURATIONS, ids=str)
def test_fits_against_the_oracle(fit, make_shards, monkeypatch, shape, algorithm, many):
    n, d, k, levels, copies, constant, empty = shape
    seed = int(algorithm == "lloyd")
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", many)  # few may be treated as many are
    rng = np.random.default_rng(seed)
    images = rng.integers(0, levels, (n, d)) * (255 // (levels - 1))
    images[:, :constant] = 9
    images = np.tile(images.astype(np.uint8), (copies, 1))
    initial = images[rng.choice(n, k, replace=False)] / 255
    initial[:empty] = 1 - initial[:1] / 2
    rank = hashing.hashes(hashing.digests(shard_set.numbered(len(images))), 0, "empty")
    expected = oracle.lloyd(images, initial, rank)
    result = fit(make_shards(images), k, init=initial, algorithm=algorithm)
    assert [line["changed"] for line in result.history] == expected.changed
    assert [line["empty"] for line in result.history] == expected.empty
    assert result.metrics["iterations"] == expected.iterations
    np.testing.assert_array_equal(result.centroids, expected.centroids.astype(np.float32))
    np.testing.assert_array_equal(result.clusters, expected.clusters)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_configurations_have_one_answer(fit, make_shards, monkeypatch, seed):
    """Lloyd = each pruned algorithm = any number of replicas, to the bit."""
    rng = np.random.default_rng(seed)
    n, d, k = rng.integers([20, 4, 1], [200, 100, 16]).tolist()
    levels, copies = (int(rng.choice(of)) for of in ([4, 16, 256], [1, 1, 2, 3]))
    images = rng.integers(0, levels, (n, d)) * (255 // (levels - 1))
    images[:, : rng.integers(0, d // 2)] = 9
    shards = make_shards(np.tile(images.astype(np.uint8), (copies, 1)))
    initial = images[rng.choice(n, k, replace=False)] / 255
    initial[: rng.integers(0, k // 2 + 1)] = 1 - initial[:1] / 2  # these start empty
    plain = fit(shards, k, init=initial)
    cases = [(200, 1), (200, 3), (0, 1), (0, 2)]
    for algorithm, (many, replicas) in itertools.product(PRUNED, cases):
        monkeypatch.setattr(hamerly, "MANY_CENTROIDS", many)
        pruned = fit(shards, k, init=initial, algorithm=algorithm, replicas=replicas)
        np.testing.assert_array_equal(pruned.centroids, plain.centroids)
        np.testing.assert_array_equal(pruned.clusters, plain.clusters)
        assert [line["changed"] for line in pruned.history] == [
            line["changed"] for line in plain.history
        ]


@pytest.mark.parametrize("k", [10, 40])
def test_digits_against_scikit_learn(fit, make_shards, k):
    images = np.rint(load_digits().data * (255 / 16)).astype(np.uint8)
    published = images / 255
    initial = published[np.random.default_rng(k).choice(len(images), k, replace=False)]
    theirs = KMeans(k, init=initial, n_init=1, tol=0, algorithm="lloyd").fit(published)
    ours = fit(make_shards(images), k, init=initial)
    np.testing.assert_array_equal(ours.clusters, theirs.labels_)
    assert ours.metrics["iterations"] == theirs.n_iter_
    assert ours.metrics["inertia"] == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float_images_against_scikit_learn(fit, make_shards, algorithm):
    rng = np.random.default_rng(4)
    images = rng.normal(size=(6, 20))[rng.integers(0, 6, 400)] + 0.7 * rng.normal(size=(400, 20))
    images = images.astype(np.float32)
    exact = images.astype(np.float64)
    initial = exact[rng.choice(400, 6, replace=False)]
    theirs = KMeans(6, init=initial, n_init=1, tol=0, algorithm="lloyd").fit(exact)
    ours = fit(make_shards(images), 6, init=initial, algorithm=algorithm)
    np.testing.assert_array_equal(ours.clusters, theirs.labels_)
    assert ours.metrics["iterations"] == theirs.n_iter_
    assert ours.metrics["inertia"] == pytest.approx(theirs.inertia_, rel=1e-6)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, rtol=1e-6, atol=1e-6)

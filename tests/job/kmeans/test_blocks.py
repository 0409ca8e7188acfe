"""The maths of a block, and the algorithm it adds up to, from four points to scikit-learn."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import oracle
import pytest
import shard_set
import tensorflow as tf
from drawn_sets import sets
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from job import hashing
from job.distribute.replicas import local_replicas
from job.images.resident import ResidentImages
from job.images.rows import squared_pixel_norms
from job.kmeans import ALGORITHMS, hamerly, sums
from job.kmeans.blocks import images_per_block, stored
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import nearest_centroids, scorer_of, squared_distances, squared_distances_to
from job.kmeans.sums import (
    MAX_EXACT_IMAGES,
    ClusterSums,
    inertia,
    inertia_of_means,
    means,
)
from pipeline.shards.manifest import load_manifest
from pipeline.shards.pixel_scale import on_grid, squared_norms, units_of

BYTES = units_of(np.dtype("uint8"), 784)
FLOATS = units_of(np.dtype("float32"), 784)
PRUNED = sorted({*ALGORITHMS} - {"lloyd"})


@functools.cache
def graph(function: Callable, dtype: str, *shape: int) -> Callable:
    """`function` as a graph that is traced anew for another `shape` [d, k], not for another n."""
    return tf.function(function, reduce_retracing=True)


def assign(images: np.ndarray, centroids: np.ndarray, rows: np.ndarray | None = None):
    """`nearest_centroids`, of all images or of `rows`: clusters and gaps [n]."""
    units = units_of(images.dtype, images.shape[1])
    scorer = scorer_of(on_grid(centroids, units), units, FLOAT32)
    function = graph(nearest_centroids, images.dtype.name, *centroids.shape)
    found = function(stored(images), squared_pixel_norms(images), scorer, units, rows)
    return [part.numpy() for part in found]


def moved(images: np.ndarray, before: np.ndarray, after: np.ndarray, num_clusters: int):
    """`moved_sums` as arrays."""
    shape = tf.TensorShape([num_clusters, images.shape[1]])
    function = graph(sums.moved_sums, images.dtype.name, *shape)
    return [part.numpy() for part in function(stored(images), before, after, shape)]


def bytes_of(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.integers(0, 256, (n, d), dtype=np.uint8)


# By hand.


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


# Against the oracle.


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


@settings(max_examples=100, deadline=None)
@given(sets(), st.data())
def test_moved_sums_against_the_oracle(drawn, data):
    images, centroids = drawn
    k = len(centroids)
    before, after = (
        data.draw(arrays.arrays(np.int64, len(images), elements=st.integers(lowest, k - 1)))
        for lowest in (-1, 0)  # before the first assignment there is no cluster
    )
    total, counts, num_moved = moved(images, before, after, k)
    assert num_moved == (before != after).sum()
    for c in range(k):
        gained, lost = images[after == c], images[before == c]
        expected = gained.sum(axis=0, dtype=int) - lost.sum(axis=0, dtype=int)
        np.testing.assert_array_equal(total[c], expected)
        assert counts[c] == len(gained) - len(lost)


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


# With a deviation of 70 there is nothing to find: screens tell little, and are given up.
@pytest.mark.parametrize(
    ("dtype", "deviation"), [("uint8", 18), ("float32", 18), ("uint8", 70), ("float32", 70)]
)
def test_many_centroids_have_the_answer_of_lloyd(fit, make_shards, dtype, deviation):
    rng = np.random.default_rng(5)
    middles = rng.integers(40, 216, (150, 96))
    images = middles[rng.integers(0, 150, 3000)] + rng.normal(0, deviation, (3000, 96))
    images = np.clip(images, 0, 255).astype(dtype)
    images[:40] = images[40:80]
    initial = images[rng.choice(np.arange(40, 3000), 230, replace=False)]
    initial = initial / units_of(images.dtype, 96).scale
    shards = make_shards(images)
    plain = fit(shards, 230, init=initial, algorithm="lloyd")
    changed = [line["changed"] for line in plain.history]
    for algorithm in PRUNED:
        pruned = fit(shards, 230, init=initial, algorithm=algorithm)
        np.testing.assert_array_equal(pruned.clusters, plain.clusters)
        np.testing.assert_array_equal(pruned.centroids, plain.centroids)
        assert [line["changed"] for line in pruned.history] == changed


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("many", [False, True])
def test_bounds_hold_as_centroids_move(make_shards, monkeypatch, dtype, many):
    """On a line, where a bound loses no more than it has to; few steps are by far the largest."""
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", 10 - 9 * many)
    rng, k = np.random.default_rng(0), 9
    middles = np.full((k, 8), 30.0)
    middles[:, 0] = rng.uniform(0, 255, k)
    pixels = np.full((3000, 8), 30)
    pixels[:, 0] = rng.integers(0, 256, 3000)
    pixels = pixels.astype(dtype)
    folder = make_shards(pixels)
    images = ResidentImages(folder, load_manifest(folder), local_replicas())
    algorithm = hamerly.hamerly(images, k)
    exact = pixels / images.units.scale
    skipped = []
    for step in (10, 3, 1, 0.3, 0.3, 0.1, 0.1, 0.03, 0.03, 0.01, 0.01, 0):
        middles[:, 0] += step * rng.pareto(2, k) * rng.choice((-1, 1), k) / k
        centroids = on_grid(middles / images.units.scale, images.units)
        algorithm.assign(centroids)
        distances = np.linalg.norm(exact[:, None] - centroids, axis=2)
        clusters = algorithm.clusters.numpy()
        np.testing.assert_array_equal(clusters, distances.argmin(axis=1))
        own, second = np.sort(distances, axis=1)[:, :2].T
        if many:
            _, upper, lower = (part.numpy() for part in algorithm.bounds)
            assert (upper >= own).all()
            assert (lower <= second).all()
            gaps = lower - upper
        else:
            gaps = algorithm.bounds.gaps.numpy()
            assert (gaps <= second - own).all()
        skipped.append((gaps > 0).mean())
    assert skipped[-1] > 0.5, skipped


# Against scikit-learn.


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


# Near-ties.


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


# Sums.


@st.composite
def cluster_sums(draw) -> ClusterSums:
    """Sums and counts of images, as large as those of 2³² images may be."""
    sums = arrays.arrays(np.int64, (2, 3), elements=st.integers(0, 255 * 2**32))
    counts = arrays.arrays(np.int64, (2,), elements=st.integers(0, 2**32))
    return ClusterSums(draw(sums).astype(np.float64), draw(counts))


def equal(one: ClusterSums, other: ClusterSums) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@given(cluster_sums(), cluster_sums(), cluster_sums())
def test_merge_is_associative_and_commutative(a, b, c):
    assert equal(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert equal(a.merge(b), b.merge(a))
    assert equal(a.merge(ClusterSums.zero(2, 3)), a)


def test_sums_of_many_bright_images_are_exact():
    n = 3 * MAX_EXACT_IMAGES
    images = np.full((n, 2), 255, np.uint8)
    before, after = np.full(n, -1), np.zeros(n, np.int64)
    total, counts, num_moved = moved(images, before, after, 2)
    assert (total.tolist(), counts.tolist()) == ([[255 * n] * 2, [0, 0]], [n, 0])
    assert num_moved == n


def test_sums_of_float_images_are_those_of_float64():
    rng = np.random.default_rng(7)
    images = rng.normal(size=(5000, 3)).astype(np.float32) + np.float32(1000)
    before, after = np.full(5000, -1), rng.integers(0, 2, 5000)
    total, _, _ = moved(images, before, after, 2)
    expected = [[math.fsum(column) for column in images[after == c].T] for c in range(2)]
    np.testing.assert_allclose(total, expected, rtol=1e-14)


# Distances and inertia.


@pytest.mark.parametrize("d", [3, 784, 4385, 4386, 5000])
def test_distances_between_images_are_exact(d):
    images = bytes_of(np.random.default_rng(d), 40, d)
    images[1], images[2], images[3] = 255, 0, images[0]
    function = graph(squared_distances_to, "uint8", d)
    for other in images[:3]:
        found = function(stored(images), squared_pixel_norms(images), other)
        expected = np.square(images.astype(np.int64) - other).sum(axis=1)
        np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize("offset", [0, 200])
def test_inertia(offset):
    rng = np.random.default_rng(9)
    images = (offset + rng.integers(0, 56, (3000, 40))).astype(np.uint8)
    units = units_of(images.dtype, 40)
    clusters = rng.integers(0, 5, 3000)
    rows = [images[clusters == c].astype(np.float64) for c in range(5)]
    total = ClusterSums(np.array([part.sum(axis=0) for part in rows]), np.bincount(clusters))
    norms = float(squared_pixel_norms(images).sum())
    own_means = [part.mean(axis=0) for part in rows]
    expected = sum(np.square(p - m).sum() for p, m in zip(rows, own_means, strict=True)) / 255**2
    assert inertia_of_means(norms, total, units) == pytest.approx(expected, rel=1e-11)
    centroids = means(total, units)
    np.testing.assert_allclose(centroids, np.array(own_means) / 255, atol=units.step)
    assert inertia(norms, total, centroids, units) == pytest.approx(expected, rel=1e-11)
    other = on_grid(rng.random((5, 40)), units)
    expected = sum(np.square(p / 255 - c).sum() for p, c in zip(rows, other, strict=True))
    assert inertia(norms, total, other, units) == pytest.approx(expected, rel=1e-11)


# The grid.


@pytest.mark.parametrize("d", [1, 3, 64, 784, 150_528])
def test_products_on_the_grid_do_not_depend_on_the_order_of_additions(d):
    rng = np.random.default_rng(d)
    units = units_of(np.dtype("uint8"), d)
    centroid = on_grid(rng.random((1, d)), units)[0]
    centroid[: d // 2] = 1 - units.step  # all bits of it, and the largest sums
    images = bytes_of(rng, 3, d)
    images[0] = 255
    for image in images.astype(np.float64):
        exact = math.fsum(image * centroid)
        products = image * centroid
        assert products.sum() == products[::-1].sum() == np.cumsum(products)[-1] == exact
        assert image @ centroid == exact
    assert units.step < 1e-6


@pytest.mark.parametrize("d", [1, 2, 64, 784, 150_528])
def test_norms_on_the_grid_do_not_depend_on_the_order_of_additions(d):
    rng = np.random.default_rng(d)
    units = units_of(np.dtype("uint8"), d)
    centroids = on_grid(rng.random((3, d)), units)
    centroids[0] = 1 - units.step
    found = squared_norms(centroids, units)
    for _ in range(3):
        order = rng.permutation(d)
        np.testing.assert_array_equal(squared_norms(centroids[:, order], units), found)
    np.testing.assert_allclose(found, np.square(centroids).sum(axis=1), rtol=1e-12)


def test_the_grid_holds_what_is_published():
    """float32 values, once read back, are the centroids that the assignments are made with."""
    rng = np.random.default_rng(10)
    counts = rng.integers(1, 60_000, (50, 1))
    total = ClusterSums(np.floor(rng.random((50, 784)) ** 4 * 255 * counts), counts[:, 0])
    published = means(total, BYTES).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(on_grid(published, BYTES), published)


def test_float_images_have_no_grid():
    centroids = np.random.default_rng(11).normal(size=(3, 784))
    assert FLOATS == (1.0, 0.0)
    assert on_grid(centroids, FLOATS) is centroids

"""float32 sets: right wherever they lie, and the same bits however they are divided and fitted."""

import functools
from pathlib import Path

import brute_force
import jobs
import numpy as np
import pytest
import tensorflow as tf

from job.images import streamed
from job.kmeans import ALGORITHMS, INITS
from job.result import publish
from pipeline.nearest import NearestCentroid, read_model
from pipeline.shards.block import Block

SETS = brute_force.sets()
FEW = [
    *((name, 20, "k-means++", "hamerly") for name in ("0 away", "1e+06 away", "1.7e9 away")),
    *((name, 20, "k-means||", "lloyd") for name in ("times 1e-30", "times 1e+30")),
    ("an outlier", 5, "k-means++", "hamerly"),
    ("an outlier far away", 5, "random", "lloyd"),
    ("duplicates", 120, "k-means++", "hamerly"),
    ("small integers", 8, "random", "hamerly"),
    ("1,024 dimensions", 2, "random", "hamerly"),
    ("64 dimensions", 200, "k-means||", "hamerly"),
    ("0 away", 1, "random", "lloyd"),
    ("unlike columns", 600, "k-means++", "lloyd"),
]


@pytest.mark.parametrize(("name", "k", "init", "algorithm"), FEW)
def test_brute_force(fit, make_shards, name, k, init, algorithm):
    images = SETS[name]
    result = fit(make_shards(images, num_shards=2), k, init=init, algorithm=algorithm)
    brute_force.check(images, result)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_brute_force_with_all(fit, make_shards, monkeypatch, name, init, algorithm):
    monkeypatch.setattr(publish.report, "write_report", lambda *args: None)  # not looked at here
    images = SETS[name]
    shards, distinct = make_shards(images, num_shards=3), len(np.unique(images, axis=0))
    for k in sorted({1, 2, 20, min(200, distinct), distinct}):
        brute_force.check(images, fit(shards, k, init=init, algorithm=algorithm))


@pytest.mark.parametrize("name", ["1e+06 away", "an outlier", "small integers", "times 1e-30"])
def test_assign_and_the_model_say_what_fit_says(fit, make_shards, name):
    images = SETS[name]
    result = fit(make_shards(images), 8, saved_model=True)
    model = tf.saved_model.load(str(result.folder / "model"))
    said = model.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_array_equal(said["cluster"], result.clusters)
    squared = brute_force.squared_distances(images, result.centroids)
    brute_force.check_distances(said["distances"].numpy(), squared)
    nearest = NearestCentroid(read_model(str(result.folder)))
    assigned = nearest(Block([str(row) for row in range(len(images))], None, images))
    np.testing.assert_array_equal(assigned.clusters, result.clusters)
    distances = np.sqrt(assigned.squared_distances).astype(np.float32)
    np.testing.assert_array_equal(distances, result.distances)


def mixture(n: int, d: int, groups: int) -> np.ndarray:
    """Unit vectors of a mixture, of which some are equal and some lie between two others."""
    rng = np.random.default_rng(d)
    middles = rng.normal(size=(groups, d))
    images = middles[rng.integers(0, groups, n)] + 0.8 * rng.normal(size=(n, d))
    images = brute_force.unit(images).astype(np.float32)
    images[: n // 50] = images[-(n // 50) :]
    images[n // 50 : n // 25] = (images[: n // 50] + images[n // 25 : n // 25 + n // 50]) / 2
    return images


@pytest.mark.parametrize(
    "init",
    [init if init == "k-means++" else pytest.param(init, marks=pytest.mark.slow) for init in INITS],
)
def test_the_same_bits(fit, make_shards, monkeypatch, init):
    images = mixture(800, 24, 30) + np.float32(5)
    order = np.random.default_rng(1).permutation(len(images))
    whole = fit(make_shards(images), 9, init=init).bits()
    divided = make_shards(images, num_shards=7, order=order, block_rows=31)
    assert fit(divided, 9, init=init, algorithm="hamerly").bits() == whole
    assert fit(divided, 9, init=init, replicas=3).bits() == whole
    monkeypatch.setattr(streamed, "CHUNK_BYTES", 1)
    assert fit(divided, 9, init=init, replicas=2, memory="stream").bits() == whole


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "k"), [(20_000, 64, 100), (5_000, 512, 300)])
def test_the_same_bits_of_larger_sets(fit, make_shards, n, d, k):
    images = mixture(n, d, 200)
    order = np.random.default_rng(1).permutation(n)
    for init in INITS:
        options = {"init": init, "max_iterations": 30}
        whole = fit(make_shards(images, num_shards=3), k, **options).bits()
        divided = make_shards(images, num_shards=7, order=order)
        for replicas, memory, algorithm in (
            (1, "resident", "hamerly"),
            (2, "resident", "hamerly"),
            (3, "stream", "lloyd"),
            (1, "stream", "hamerly"),
        ):
            how = {"replicas": replicas, "memory": memory, "algorithm": algorithm}
            assert fit(divided, k, **options, **how).bits() == whole, how


@pytest.mark.slow
def test_workers_and_killed_fits_make_the_same_bits(make_shards, tmp_path):
    images = mixture(20_000, 64, 200)
    shards = make_shards(images, num_shards=3)
    options = ["--k", 100, "--checkpoint-seconds", 0, "--shards"]
    assert jobs.fit(tmp_path / "whole", *options, shards) == 0
    whole = jobs.outcome(tmp_path / "whole")
    permuted = make_shards(images, num_shards=7, order=np.random.default_rng(2).permutation(20_000))
    with jobs.ended(jobs.start_workers(tmp_path / "two", 2, *options, permuted)) as workers:
        assert jobs.wait(*workers) == [0, 0], jobs.errors_of(tmp_path / "two")
    assert jobs.outcome(tmp_path / "two") == whole
    output = tmp_path / "killed"
    for iterations in (1, 4, 9):
        with jobs.ended([process := jobs.start(output, *options, permuted)]):
            begun = functools.partial(_has_iterations, output, iterations)
            assert jobs.wait_until(begun, process), jobs.errors_of(output)
            process.kill()
            process.wait()
    assert jobs.fit(output, *options, permuted, "--algorithm", "lloyd") == 0, jobs.errors_of(output)
    assert jobs.outcome(output) == whole


def _has_iterations(output: Path, least: int) -> bool:
    return jobs.num_iterations(output) >= least

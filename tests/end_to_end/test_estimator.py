"""The estimator finds the bits of the command line, however the array comes."""

import json
import subprocess
import sys

import jobs
import numpy as np
import pytest
import sharded
from sklearn.datasets import load_digits

from kmeans_job import KMeans
from pipeline.sources import open_source

DIGITS = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
VECTORS = np.random.default_rng(0).normal(size=(2_500, 20)).astype(np.float32)
FAR = (VECTORS[:800] + np.float32(1000)).astype(np.float32)


def check(ours: KMeans, published, scale: float) -> None:
    """Checks that an estimator has the bits of a result, in units of `scale` to one of these."""
    centers = (ours.cluster_centers_ / scale).astype(np.float32)
    assert centers.tobytes() == published.centroids.tobytes()
    assert ours.labels_.tobytes() == published.clusters.tobytes()
    assert ours.inertia_ == published.metrics["inertia"] * scale**2
    assert ours.n_iter_ == published.metrics["iterations"]
    lines = [line for line in published.history if line["restart"] == published.metrics["restart"]]
    assert len(ours.history_) == len(lines)
    for record, line in zip(ours.history_, lines, strict=True):
        assert record.keys() == line.keys()
        for name in line.keys() - {"seconds", "inertia", "shift"}:
            assert record[name] == line[name]
        for name in ("inertia", "shift"):
            assert record[name] == line[name] * scale**2


@pytest.mark.parametrize(
    ("array", "scale"),
    [(DIGITS, 255.0), (DIGITS[:, :, :7], 255.0), (VECTORS, 1.0), (FAR, 1.0)],
    ids=["digits", "7 columns", "floats", "floats far away"],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_command_line_finds_the_same(fit, tmp_path, array, scale, replicas):
    np.save(tmp_path / "set.npy", array)
    sharded.shard(open_source(str(tmp_path / "set.npy")), tmp_path / "shards", num_shards=3)
    published = fit(str(tmp_path / "shards"), 10, seed=3, restarts=2)
    ours = KMeans(10, random_state=3, n_init=2, replicas=replicas, algorithm="hamerly").fit(array)
    check(ours, published, scale)


@pytest.mark.parametrize("init", ["random", "k-means||"])
def test_other_initial_centers(fit, make_shards, init):
    published = fit(make_shards(DIGITS), 7, init=init, max_iterations=3)
    with pytest.warns(match="not converged after max_iter=3 iterations; raise max_iter or tol"):
        ours = KMeans(7, init=init, max_iter=3).fit(DIGITS)
    check(ours, published, 255.0)


@pytest.mark.parametrize(("array", "scale"), [(DIGITS, 255.0), (FAR, 1.0)])
def test_given_initial_centers(fit, make_shards, array, scale):
    flat = array.reshape(len(array), -1)
    initial = flat[:5] * 0.99
    published = fit(make_shards(array), 5, init=initial / scale)
    check(KMeans(5, init=initial).fit(array), published, scale)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_mnist(fit, make_shards, mnist, replicas):
    with np.load(mnist) as file:
        images = file["x_train"]
    published = fit(make_shards(images, num_shards=3), 10, seed=1, algorithm="hamerly")
    check(KMeans(10, random_state=1, replicas=replicas).fit(images), published, 255.0)


def test_replicas_in_a_process_of_its_own(tmp_path):
    """Devices are made when TensorFlow starts, or never: a message says so."""
    code = """
import json, numpy as np
from kmeans_job import KMeans
X = np.random.default_rng(0).integers(0, 256, (500, 9), dtype=np.uint8)
fits = [KMeans(4, replicas=replicas).fit(X) for replicas in (2, 1)]
try:
    KMeans(4, replicas=3).fit(X)
except ValueError as error:
    message = str(error)
print(json.dumps([message, *(fit.cluster_centers_.tobytes().hex() for fit in fits)]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=True)
    message, first, second = json.loads(done.stdout)
    assert first == second
    assert message == (
        "replicas=3: TensorFlow has already started with fewer CPU devices; ask for them before "
        "anything else uses TensorFlow, or fit with fewer"
    )

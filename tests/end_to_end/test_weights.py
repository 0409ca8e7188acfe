"""--weight-column from a file to a result: repeated rows and the estimator's bits, or a message."""

import csv
import itertools
import json
import subprocess
import sys

import jobs
import numpy as np
import pytest
import sharded

import kmeans_job
from job.kmeans import INITS
from kmeans_job import KMeans
from pipeline.errors import UserError
from pipeline.sources import open_source

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (200, 6), dtype=np.uint8)
FLOATS = (RNG.normal(size=(200, 6)) * 3 + 50).astype(np.float32)
WHOLE = RNG.integers(0, 6, 200)
WHOLE[:3], WHOLE[100:] = 50, np.minimum(WHOLE[100:], 1)
SOME = RNG.random(200) * WHOLE
K = 12
ALIKE = ("inertia", "iterations", "converged")


def shards_of(folder, values, weights, num_shards=2) -> str:
    """Shards of an .npz file with weights, or without."""
    folder.mkdir()
    np.savez(folder / "set.npz", x=values, **({} if weights is None else {"w": weights}))
    name = None if weights is None else "w"
    source = open_source(str(folder / "set.npz"), weight_column=name)
    sharded.shard(source, folder / "shards", num_shards)
    return str(folder / "shards")


def bits(result) -> tuple:
    """What must be the same however a result came about."""
    history = [{**line, "seconds": None} for line in result.history]
    return result.centroids.tobytes(), result.metrics["inertia"], history


def bits_of(ours: KMeans, scale: float) -> tuple:
    history = [
        {**line, "inertia": line["inertia"] / scale**2, "shift": line["shift"] / scale**2}
        for line in ours.history_
    ]
    centers = (ours.cluster_centers_ / scale).astype(np.float32)
    return centers.tobytes(), ours.inertia_ / scale**2, [{**h, "seconds": None} for h in history]


QUICK = [("bytes", "whole", "random")]  # its graphs are traced fastest
SLOW = [
    pytest.param(*each, marks=pytest.mark.slow)
    for each in itertools.product(("bytes", "floats"), ("whole", "some"), INITS)
    if each not in QUICK
]


@pytest.mark.parametrize(("values", "weights", "init"), [*QUICK, *SLOW])
def test_one_answer(fit, tmp_path, values, weights, init):
    values = PIXELS if values == "bytes" else FLOATS
    weights = WHOLE if weights == "whole" else SOME
    one = shards_of(tmp_path / "one", values, weights)
    many = shards_of(tmp_path / "many", values, weights, 7)
    found = fit(one, K, init=init)
    scale = 255.0 if values is PIXELS else 1.0
    ours = KMeans(K, init=init, algorithm="hamerly").fit(values, sample_weight=weights)
    wanted_centers, wanted_inertia, wanted_history = bits_of(ours, scale)
    centers, inertia, history = bits(found)
    assert (centers, inertia) == (wanted_centers, pytest.approx(wanted_inertia, rel=1e-15))
    assert [line["changed"] for line in history] == [line["changed"] for line in wanted_history]
    assert found.clusters.tolist() == ours.labels_.tolist()
    for options in (
        {"memory": "stream", "replicas": 2},
        {"memory": "resident", "replicas": 3, "algorithm": "hamerly"},
    ):
        assert bits(fit(many, K, init=init, **options)) == bits(found)
    if weights is WHOLE:
        repeated = shards_of(tmp_path / "all", np.repeat(values, WHOLE, axis=0), None)
        assert bits(fit(repeated, K, init=init)) == bits(found)
    totals = np.bincount(found.clusters, weights, K)
    np.testing.assert_allclose(found.metrics["cluster_weights"], totals, atol=200 * 50 / 2**20)
    assert found.metrics["cluster_sizes"] == np.bincount(found.clusters, minlength=K).tolist()
    assert found.metrics["weight_column"] == found.metrics["config"]["weight_column"] == "w"


@pytest.fixture(scope="module")
def weighted(tmp_path_factory) -> str:
    return shards_of(tmp_path_factory.mktemp("weighted") / "set", PIXELS, WHOLE)


def test_weights_may_be_ignored(fit, weighted, tmp_path):
    plain = shards_of(tmp_path / "plain", PIXELS, None)
    one, other = fit(plain, 4), fit(weighted, 4, weight_column="none")
    assert bits(one) == bits(other)
    assert "cluster_weights" not in other.metrics
    assert other.metrics["config"]["weight_column"] == "none"
    assert one.metrics["config"]["weight_column"] is None
    assert bits(fit(weighted, 4, weight_column="w")) != bits(one)


def test_weights_that_the_shards_do_not_hold(fit, weighted, tmp_path):
    message = "--weight-column mass: .* holds the weights of w; shard again with --weight-column ma"
    with pytest.raises(UserError, match=message):
        fit(weighted, 4, weight_column="mass")
    plain = shards_of(tmp_path / "plain", PIXELS, None)
    with pytest.raises(
        UserError, match=r"--weight-column w: .* holds no weights; shard again with"
    ):
        fit(plain, 4, weight_column="w")
    assert fit(plain, 2, weight_column="none").metrics["config"]["weight_column"] is None


def test_fewer_images_with_a_weight_than_clusters(fit, tmp_path):
    weights = np.where(np.arange(200) < 3, 2.0, 0)
    shards = shards_of(tmp_path / "few", PIXELS, weights)
    for init in ("k-means++", "random"):
        with pytest.raises(UserError, match="--k 5: the set has only 3 distinct images"):
            fit(shards, 5, init=init)
    assert fit(shards, 3).metrics["inertia"] == pytest.approx(0, abs=1e-12)


class Stop:
    """A caller's callback that ends a fit as a crash does."""

    def on_begin(self, config) -> None: ...

    def on_end(self, metrics) -> None: ...

    def on_iteration(self, record) -> None:
        if record.iteration == 2:
            raise RuntimeError("crash")


@pytest.mark.slow
def test_a_fit_resumes(fit, weighted, tmp_path):
    options = {"k": K, "quiet": True, "checkpoint_seconds": 0, "algorithm": "lloyd"}
    with pytest.raises(RuntimeError, match="crash"):
        kmeans_job.fit(weighted, tmp_path / "out", callbacks=[Stop()], **options)
    with pytest.raises(UserError, match=r"with another value of --weight-column \(w, now none\)"):
        kmeans_job.fit(weighted, tmp_path / "out", weight_column="none", **options)
    resumed = kmeans_job.fit(weighted, tmp_path / "out", weight_column="w", **options)
    whole = fit(weighted, K)
    assert resumed.centroids.tobytes() == whole.centroids.tobytes()
    assert resumed.metrics["inertia"] == whole.metrics["inertia"]


@pytest.mark.slow
def test_the_same_file_may_be_assigned(fit, tmp_path):
    columns = np.column_stack([PIXELS, SOME])
    header = ",".join([*(f"p{i}" for i in range(6)), "w"])
    np.savetxt(tmp_path / "set.csv", columns, "%.17g", ",", header=header, comments="")
    kmeans_job.shard(tmp_path / "set.csv", tmp_path / "shards", weight_column="w", num_shards=2)
    found = fit(str(tmp_path / "shards"), 4)
    out = tmp_path / "new"
    kmeans_job.assign(found.folder, tmp_path / "set.csv", out, weight_column="w")
    sizes = json.loads((out / "manifest.json").read_text())["cluster_sizes"]
    assert sizes == found.metrics["cluster_sizes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "weights"), [("random", SOME), ("far.npy", WHOLE)], ids=["some", "whole"]
)
def test_workers_end_with_the_bits_of_one(tmp_path, init, weights):
    shards = shards_of(tmp_path / "set", PIXELS, weights, 5)
    if init == "far.npy":  # most clusters are empty
        np.save(init := tmp_path / "far.npy", np.repeat(np.eye(2, 6), 15, axis=0))
    options = ("--shards", shards, "--k", 30, "--init", init)
    assert jobs.fit(tmp_path / "one", *options) == 0
    wanted = jobs.outcome(tmp_path / "one")
    for memory in ("stream", "resident"):
        output = tmp_path / memory
        how = ("--memory", memory, "--replicas", 2)
        with jobs.ended(jobs.start_workers(output, 2, *options, *how)) as processes:
            assert jobs.wait(*processes) == [0, 0], jobs.errors_of(output)
        assert jobs.outcome(output) == wanted
    history = (tmp_path / "one" / "history.jsonl").read_text().splitlines()
    assert init == "random" or json.loads(history[0])["empty"]


@pytest.mark.slow
def test_the_command_line(tmp_path):
    """CSV with a column of weights = the same file with each line as often as its weight says."""
    for name, repeats in (("plain", WHOLE), ("weighted", np.ones(200, int))):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "set.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow([*(f"p{i}" for i in range(6)), *(["w"] if name == "weighted" else [])])
            for pixels, weight, count in zip(PIXELS.tolist(), WHOLE, repeats, strict=True):
                own = [weight] if name == "weighted" else []
                lines.writerows([[*pixels, *own]] * count)
    outcomes = []
    for name, options in (("plain", []), ("weighted", ["--weight-column", "w"])):
        out = tmp_path / name / "out"
        path = tmp_path / name / "set.csv"
        words = ["run", "--input", path, "--k", 7, "--output", out, *options]
        command = [sys.executable, "-m", "job", *map(str, words)]
        done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((out / "metrics.json").read_text())
        centroids = (out / "centroids.npy").read_bytes()
        outcomes.append((centroids, [metrics[name] for name in ALIKE]))
    assert outcomes[0] == outcomes[1]
    assert "images, weighted by w" in done.stderr
    assert "; weighted by w" in done.stdout

"""`fit` from shards to a result folder: what must hold whatever the data and the machine."""

import dataclasses
import json
import math
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import shard_set
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from job import fit as fitting
from job import sweep
from job.config import FitConfig
from job.kmeans import ALGORITHMS, INITS
from pipeline import storage
from pipeline.errors import JobError, UserError
from pipeline.shards.assignments import SCHEMA

LABEL_METRICS = (
    *("purity", "purity_weighted", "nmi", "ari", "homogeneity", "completeness", "accuracy"),
    "contingency",
)
METRICS = {
    *(
        "num_images",
        "num_labelled",
        "num_features",
        "num_clusters",
        "algorithm",
        "init",
        "seed",
        "restarts",
    ),
    *("iterations", "converged", "inertia", "cluster_sizes", "davies_bouldin", "seconds"),
    *("replicas", "workers", "versions", "fingerprint", "config"),
    *LABEL_METRICS,
}
PRUNED = sorted({*ALGORITHMS} - {"lloyd"})
NUM_IMAGES, K = 240, 6


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Real digits, some of them twice; uint8 [n, 64], with pixels that are always 0."""
    pixels = np.rint(load_digits().data[:NUM_IMAGES] * (255 / 16)).astype(np.uint8)
    pixels[-20:] = pixels[:20]
    return pixels


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return load_digits().target[:NUM_IMAGES].astype(np.int64)


@pytest.fixture(scope="module")
def shards(make_shards, images, labels) -> str:
    return make_shards(images, labels=labels, num_shards=2)


@pytest.fixture(scope="module")
def initial(images) -> np.ndarray:
    """Centroids to start from; float64 [k, d]."""
    return images[np.random.default_rng(1).choice(200, K, replace=False)] / 255


@pytest.fixture(scope="module")
def result(fit, shards):
    return fit(shards, K)


@pytest.fixture(scope="module")
def from_initial(fit, shards, initial):
    return fit(shards, K, init=initial)


# The same bits.


SLOW_TO_TRACE = pytest.param("k-means||", marks=pytest.mark.slow)  # a graph for each round


@pytest.mark.parametrize("init", [*(i for i in INITS if i != "k-means||"), SLOW_TO_TRACE, "given"])
def test_bits_depend_on_the_images_alone(fit, make_shards, images, labels, initial, init):
    init = initial if init == "given" else init
    rng = np.random.default_rng(0)
    bits = []
    for replicas, num_shards, block_rows in [(1, 1, 100), (2, 3, 7), (3, 16, 100), (4, 1, 64)]:
        order = rng.permutation(len(images)) if bits else None
        folder = make_shards(
            images, labels=labels, num_shards=num_shards, order=order, block_rows=block_rows
        )
        bits.append(fit(folder, K, init=init, replicas=replicas).bits())
    assert all(other == bits[0] for other in bits[1:])


@pytest.mark.parametrize("algorithm", PRUNED)
def test_bits_do_not_depend_on_the_algorithm(fit, make_shards, images, shards, labels, algorithm):
    order = np.random.default_rng(0).permutation(len(images))
    other = make_shards(images, labels=labels, num_shards=3, order=order)
    lloyd = fit(shards, K, init="random", seed=3)
    pruned = fit(other, K, init="random", seed=3, algorithm=algorithm, replicas=2)
    assert pruned.bits() == lloyd.bits()
    assert pruned.metrics["algorithm"] == algorithm


def test_auto_says_what_it_chose(fit, shards):
    result = fit(shards, K, algorithm="auto", max_iterations=1)
    assert result.metrics["algorithm"] in {"lloyd", *PRUNED}
    assert result.metrics["config"]["algorithm"] == "auto"


def test_other_seeds_give_other_results(fit, shards):
    first, second = (fit(shards, K, init="random", seed=seed, max_iterations=1) for seed in (0, 1))
    assert first.bits() != second.bits()


def test_more_replicas_than_images(fit, make_shards, images):
    folder = make_shards(images[:3])
    one, four = (fit(folder, 2, init="random", replicas=count) for count in (1, 4))
    assert one.bits() == four.bits()


# Metamorphic.


def test_twice_every_image_moves_no_centroid(fit, make_shards, images, initial, from_initial):
    ids = shard_set.numbered(len(images))
    copies = make_shards(np.tile(images, (2, 1)), ids=ids + [f"{name}b" for name in ids])
    once, twice = from_initial, fit(copies, K, init=initial)
    np.testing.assert_array_equal(twice.centroids, once.centroids)
    np.testing.assert_array_equal(twice.clusters, np.repeat(once.clusters, 2))
    assert twice.metrics["iterations"] == once.metrics["iterations"]
    assert twice.metrics["inertia"] == pytest.approx(2 * once.metrics["inertia"], rel=1e-13)


def test_reordered_pixels_change_no_assignment(fit, make_shards, images, initial, from_initial):
    order = np.random.default_rng(2).permutation(images.shape[1])
    straight = from_initial
    reordered = fit(make_shards(images[:, order]), K, init=initial[:, order])
    np.testing.assert_array_equal(reordered.clusters, straight.clusters)
    np.testing.assert_array_equal(reordered.centroids, straight.centroids[:, order])
    assert reordered.metrics["iterations"] == straight.metrics["iterations"]


def test_renamed_clusters_change_no_cluster(fit, shards, initial, from_initial):
    order = np.random.default_rng(3).permutation(K)
    straight, renamed = from_initial, fit(shards, K, init=initial[order])
    np.testing.assert_array_equal(order[renamed.clusters], straight.clusters)
    np.testing.assert_array_equal(renamed.centroids, straight.centroids[order])


# What is published agrees with itself.


@pytest.mark.parametrize("options", [{}, {"max_iterations": 1}, {"tol": 1.0}], ids=str)
def test_published_files_agree(fit, shards, images, labels, options):
    result = fit(shards, K, **options)
    check_agreement(result, images / 255, labels)


def test_float_images_agree(fit, make_shards):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 12)) * 3
    pixels = (means[rng.integers(0, 4, 300)] + rng.normal(size=(300, 12))).astype(np.float32)
    result = fit(make_shards(pixels, num_shards=2), 4)
    assert result.metrics["converged"]
    check_agreement(result, pixels.astype(np.float64), None)


def test_float_images_far_from_the_origin_agree(fit, make_shards):
    pixels = (1000 + np.random.default_rng(1).normal(size=(200, 8))).astype(np.float32)
    check_agreement(fit(make_shards(pixels), 3), pixels.astype(np.float64), None)


def check_agreement(result, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Reads centroids, rows and metrics against float64 [n, d] images in published units."""
    metrics, centroids = result.metrics, result.centroids.astype(np.float64)
    assert result.rows["id"].to_pylist() == shard_set.numbered(len(images))
    squared = np.square(images[:, None, :] - centroids).sum(axis=2)  # [n, k]
    own = squared[np.arange(len(images)), result.clusters]
    assert (own <= squared.min(axis=1) * (1 + 1e-12)).all()
    np.testing.assert_allclose(result.distances, np.sqrt(own), rtol=1e-6, atol=1e-6)
    assert metrics["inertia"] == pytest.approx(own.sum(), rel=1e-6)
    nearest, second = np.sqrt(np.sort(squared, axis=1)[:, :2]).T
    silhouette = np.mean((second - nearest) / second)
    assert metrics["simplified_silhouette"] == pytest.approx(silhouette, rel=1e-6)
    sizes = np.bincount(result.clusters, minlength=len(centroids))
    assert metrics["cluster_sizes"] == sizes.tolist()
    assert sum(metrics["cluster_sizes"]) == metrics["num_images"] == len(images)
    if labels is None:
        assert result.rows["label"].null_count == len(images)
        return
    assert result.rows["label"].to_pylist() == labels.tolist()
    shares = [np.bincount(labels[result.clusters == c]).max() / sizes[c] for c in range(len(sizes))]
    assert metrics["purity"] == pytest.approx(np.mean(shares), rel=1e-12)
    table = np.zeros((len(sizes), labels.max() + 1), int)
    np.add.at(table, (result.clusters, labels), 1)
    assert metrics["contingency"] == table.tolist()


def test_centroids_are_the_means_of_their_clusters(result, images):
    assert result.centroids.dtype == np.float32
    for cluster, centroid in enumerate(result.centroids):
        own = images[result.clusters == cluster] / 255
        np.testing.assert_allclose(centroid, own.mean(axis=0), rtol=2e-7, atol=1e-9)


# Files.


def test_a_finished_folder(result):
    names = {path.name for path in result.folder.iterdir()}
    assert {"centroids.npy", "assignments", "history.jsonl", "metrics.json"} <= names
    assert "report.html" in names
    assert sorted(path.name for path in (result.folder / "assignments").iterdir()) == [
        "assignments-00000-of-00002.parquet",
        "assignments-00001-of-00002.parquet",
    ]
    assert result.rows.schema == SCHEMA


def test_metrics(result, shards):
    metrics = result.metrics
    assert metrics.keys() >= METRICS
    assert (metrics["num_images"], metrics["num_features"]) == (NUM_IMAGES, 64)
    assert (metrics["num_clusters"], metrics["init"]) == (K, "k-means++")
    assert (metrics["seed"], metrics["restarts"], metrics["workers"]) == (0, 1, 1)
    assert metrics["algorithm"] == "lloyd"
    assert metrics["seconds"].keys() == {"load", "init", "fit", "write"}
    assert metrics["config"]["shards"] == shards
    assert {"kmeans-job", "tensorflow", "numpy", "python"} <= metrics["versions"].keys()


def test_history(result):
    history = result.history
    assert [line["iteration"] for line in history] == list(range(1, len(history) + 1))
    assert len(history) == result.metrics["iterations"]
    for line in history:
        assert line.keys() >= {"iteration", "inertia", "changed", "shift", "empty", "seconds"}
    assert history[0]["changed"] == NUM_IMAGES
    assert (history[-1]["changed"], history[-1]["shift"]) == (0, 0)
    assert all(line["changed"] for line in history[:-1])
    assert history[-1]["inertia"] == pytest.approx(result.metrics["inertia"], rel=1e-6)


def test_inertia_never_rises(fit, shards):
    inertias = [line["inertia"] for line in fit(shards, K, init="random", seed=5).history]
    assert len(inertias) > 3
    assert (np.diff(inertias) <= 0).all()


def test_an_unlabelled_set(fit, make_shards, images):
    result = fit(make_shards(images), K, max_iterations=2)
    assert all(result.metrics[name] is None for name in LABEL_METRICS)
    assert result.rows["label"].null_count == NUM_IMAGES


def test_label_metrics_are_over_the_labelled_images(fit, make_shards, images, labels):
    known = np.arange(NUM_IMAGES) % 20 > 0
    result = fit(make_shards(images, labels=np.where(known, labels, -1)), K)
    metrics = result.metrics
    assert (metrics["num_images"], metrics["num_labelled"]) == (NUM_IMAGES, known.sum())
    assert result.rows["label"].null_count == NUM_IMAGES - known.sum()
    clusters, labels = result.clusters[known], labels[known]
    assert metrics["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters))
    assert metrics["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
    shares = [np.bincount(labels[clusters == c]).max() / (clusters == c).sum() for c in range(K)]
    assert metrics["purity"] == pytest.approx(np.mean(shares))
    majorities = sum(np.bincount(labels[clusters == c]).max() for c in range(K))
    assert metrics["purity_weighted"] == pytest.approx(majorities / known.sum())
    assert sum(metrics["cluster_sizes"]) == NUM_IMAGES


def test_a_folder_that_another_job_writes_to(shards, tmp_path, cpus, monkeypatch):
    monkeypatch.setattr(storage.local, "LOCK_SECONDS", 0.0)
    config = FitConfig(shards, str(tmp_path), 2, overwrite=True, quiet=True)
    with storage.locked(str(tmp_path)):
        for begin in (fitting.fit, lambda config: sweep.fit_each(config, (1, 2))):
            with pytest.raises(UserError, match="another kmeans-job is writing there; wait until"):
                begin(config)
    assert not any(tmp_path.iterdir())


def test_seconds_are_those_of_the_clock(shards, new_folder):
    ticks = iter(range(1000))
    config = FitConfig(shards, str(new_folder()), K, max_iterations=1)
    seconds = fitting.fit(config, clock=lambda: float(next(ticks)))["seconds"]
    assert all(value >= 1 and value == int(value) for value in seconds.values())


# When to stop.


def test_max_iterations(fit, shards):
    result = fit(shards, K, max_iterations=2)
    assert (result.metrics["iterations"], result.metrics["converged"]) == (2, False)
    assert len(result.history) == 2


def test_stops_where_the_shift_is_at_most_tol(fit, shards, initial, from_initial):
    shifts = [line["shift"] for line in from_initial.history]
    stop = 2
    assert min(shifts[:stop]) > shifts[stop] > 0
    exact = fit(shards, K, init=initial, tol=shifts[stop])
    assert (exact.metrics["iterations"], exact.metrics["converged"]) == (stop + 1, True)
    below = fit(shards, K, init=initial, tol=math.nextafter(shifts[stop], 0))
    assert below.metrics["iterations"] > stop + 1


def test_the_last_iteration_allowed_may_converge(fit, shards, result):
    last = fit(shards, K, max_iterations=result.metrics["iterations"])
    assert last.metrics["converged"]


def test_restarts_keep_the_lowest_inertia(fit, shards):
    result = fit(shards, K, init="random", restarts=4)
    ends = {line["restart"]: line["inertia"] for line in result.history}
    best = min(ends, key=lambda restart: (ends[restart], restart))
    assert len(set(ends.values())) > 1
    assert result.metrics["inertia"] == pytest.approx(ends[best], rel=1e-6)
    lines = [line for line in result.history if line["restart"] == best]
    assert result.metrics["iterations"] == len(lines)


# Empty clusters.

LINE = np.array([[0, 0], [8, 0], [20, 0], [100, 0]], np.uint8)


def test_an_empty_cluster_gets_the_farthest_image(fit, make_shards):
    # 255 is nobody's nearest; 100, farthest from its centroid 15, becomes its image.
    initial = np.array([[5, 0], [15, 0], [255, 0]]) / 255
    result = fit(make_shards(LINE), 3, init=initial)
    assert [line["empty"] for line in result.history] == [1, 0]
    assert [line["changed"] for line in result.history] == [4, 1]
    assert result.history[0]["inertia"] == pytest.approx(2 * 4**2 / 255**2)
    np.testing.assert_allclose(result.centroids * 255, [[4, 0], [20, 0], [100, 0]], atol=1e-4)
    assert result.clusters.tolist() == [0, 0, 1, 2]


def test_several_empty_clusters_in_the_order_of_distance(fit, make_shards):
    initial = np.array([[9, 0], [254, 9], [254, 0]]) / 255
    result = fit(make_shards(LINE), 3, init=initial, max_iterations=1)
    assert result.history[0]["empty"] == 2
    np.testing.assert_allclose(result.centroids * 255, [[4, 0], [100, 0], [20, 0]], atol=1e-4)
    assert not result.metrics["converged"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equally_far_images_are_taken_by_hash_wherever_they_lie(
    fit, make_shards, images, algorithm
):
    copies = np.repeat(images[:60], 4, axis=0)
    initial = np.concatenate([images[:2] / 255, np.ones((3, 64)), np.ones((1, 64)) / 2])
    bits = []
    for replicas in (1, 3):
        order = np.random.default_rng(replicas).permutation(len(copies))
        folder = make_shards(copies, order=order, num_shards=replicas)
        result = fit(folder, K, init=initial, replicas=replicas, algorithm=algorithm)
        bits.append(result.bits())
    assert bits[0]["history"][0]["empty"] >= 3
    assert bits[0] == bits[1]


@pytest.mark.parametrize("init", [*INITS, "given"])
def test_as_many_clusters_as_distinct_images(fit, make_shards, init):
    pixels = np.repeat(LINE, [1, 2, 3, 4], axis=0)
    init = np.zeros((4, 2)) if init == "given" else init
    result = fit(make_shards(pixels), 4, init=init)
    assert sorted(result.metrics["cluster_sizes"]) == [1, 2, 3, 4]
    assert result.metrics["inertia"] == pytest.approx(0, abs=1e-9)
    assert result.metrics["converged"]


def test_one_image_in_one_cluster(fit, make_shards):
    result = fit(make_shards(LINE[3:]), 1)
    np.testing.assert_allclose(result.centroids * 255, [[100, 0]], rtol=1e-6)
    assert (result.metrics["converged"], result.metrics["cluster_sizes"]) == (True, [1])


# The user's mistakes.


@pytest.mark.parametrize("init", [*INITS, "given"])
def test_fewer_distinct_images_than_k(new_folder, make_shards, init):
    if init == "given":
        np.save(path := new_folder() / "zeros.npy", np.zeros((3, 2)))
        init = str(path)
    pixels = np.repeat(LINE[:2], 5, axis=0)
    check_refusal(new_folder(), make_shards(pixels), 3, "--k 3: .*distinct", init=init)


def test_the_number_of_distinct_images_is_told(new_folder, make_shards):
    folder = make_shards(np.repeat(LINE[:3], 5, axis=0))
    check_refusal(new_folder(), folder, 5, "only 3 distinct images")


def test_more_clusters_than_images(new_folder, make_shards):
    check_refusal(new_folder(), make_shards(LINE), 5, "--k 5: .*4 images")


def test_an_altered_shard(new_folder, make_shards, images):
    folder = make_shards(images, num_shards=2)
    path = sorted(Path(folder).glob("*.tfrecord"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    check_refusal(new_folder(), folder, 3, path.name)


def check_refusal(output, shards: str, k: int, match: str, **options) -> None:
    """A fit that fails with UserError and leaves nothing that looks finished."""
    config = FitConfig(shards, str(output), k, **options)
    with pytest.raises(UserError, match=match):
        fitting.fit(config)
    assert not (output / "metrics.json").exists()


def test_a_result_is_not_overwritten(result, shards):
    before = (result.folder / "metrics.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        fitting.fit(FitConfig(shards, str(result.folder), 2))
    assert (result.folder / "metrics.json").read_bytes() == before


def test_one_of_several_workers_takes_its_own_finished_result_for_done(result, monkeypatch):
    task = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    config = FitConfig(**result.metrics["config"])
    with pytest.raises(UserError, match="--overwrite"):
        fitting.fit(config)
    monkeypatch.setenv("TF_CONFIG", task)
    assert fitting.fit(config) == result.metrics  # and waits for nobody
    for other in ({"seed": 7}, {"overwrite": True}):
        config = dataclasses.replace(config, start_timeout_seconds=0, **other)
        with pytest.raises(JobError, match=r"worker 0 .a:1.: not there"):
            fitting.fit(config)


def test_a_file_of_centroids_may_have_changed_since_a_result(from_initial, monkeypatch):
    task = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", task)
    config = FitConfig(**from_initial.metrics["config"] | {"start_timeout_seconds": 0})
    with pytest.raises(JobError, match=r"worker 0 .a:1.: not there"):
        fitting.fit(config)


def test_a_result_is_replaced_on_demand(shards, new_folder):
    output = new_folder()
    for k in (3, 2):
        fitting.fit(FitConfig(shards, str(output), k, max_iterations=1, overwrite=k == 2))
    assert json.loads((output / "metrics.json").read_text())["num_clusters"] == 2
    assert len((output / "history.jsonl").read_text().splitlines()) == 1


def test_a_folder_of_something_else_is_refused(shards, new_folder):
    output = new_folder()
    (output / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"thesis\.tex"):
            fitting.fit(FitConfig(shards, str(output), 2, overwrite=overwrite))
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_what_a_dead_run_left_is_replaced(fit, shards, result, new_folder):
    output = new_folder()
    (output / "history.jsonl").write_text('{"iteration": 1}\n')
    (output / "centroids.npy.0.tmp").write_bytes(b"half")
    fitting.fit(FitConfig(shards, str(output), K))
    assert not list(output.glob("*.tmp"))
    lines = (output / "history.jsonl").read_text().splitlines()
    assert len(lines) == result.metrics["iterations"]


def test_the_images_that_are_distinct_are_counted_after_the_empty_clusters_are_filled(
    make_shards, fit, new_folder
):
    shards = make_shards(np.array([[0, 0]] * 9 + [[8, 0]], np.uint8))
    with pytest.raises(UserError, match="only 2 distinct images; use --k 2"):
        fit(shards, 3, init="random")


def test_floats_too_large_for_float32_distances_are_refused(make_shards, fit):
    shards = make_shards(np.array([[3e38, 0], [0, 1], [2, 1]], np.float32))
    with pytest.raises(UserError, match="norm 3e\\+38, whose distances float32 cannot hold"):
        fit(shards, 2, init="random")


@pytest.mark.parametrize("memory", ["resident", "stream"])
def test_images_are_dropped_before_the_last_result_is_published(
    shards, new_folder, monkeypatch, memory
):
    """Both need much memory."""
    made, held = [], []
    for name in ("ResidentImages", "StreamedImages"):
        kind = getattr(fitting, name)
        monkeypatch.setattr(
            fitting, name, lambda *args, kind=kind: (each := kind(*args), made.append(ref(each)))[0]
        )
    publish = fitting.publish_assignments

    def noted(*args):
        held.append(made[-1]() is not None)
        publish(*args)

    monkeypatch.setattr(fitting, "publish_assignments", noted)
    config = FitConfig(shards, str(new_folder()), K, memory=memory, max_iterations=2)
    fitting.fit(config)
    assert held == [False]
    sweep.fit_each(dataclasses.replace(config, output=str(new_folder())), [K, 3])
    assert held == [False, True, False]
    assert len(made) == 2

"""Restarts, iterations and where they end; empty clusters; states to resume from."""

import itertools

import numpy as np
import pytest

from job import hashing
from job.config import FitConfig
from job.kmeans import loop
from job.kmeans.loop import Seconds, State
from pipeline.errors import UserError


class Recorder:
    """A callback that keeps all it is told.

    Attributes:
      told: the names of the calls and what they say, in order.
    """

    def __init__(self):
        self.told: list[tuple] = []

    def on_seeding(self, restart, num_centroids):
        self.told.append(("seeding", restart, num_centroids))

    def on_iteration(self, record):
        self.told.append(("iteration", record))

    def on_state(self, state):
        self.told.append(("state", state))

    @property
    def records(self) -> list[loop.IterationRecord]:
        return [rest[0] for name, *rest in self.told if name == "iteration"]

    @property
    def states(self) -> list[State]:
        return [rest[0] for name, *rest in self.told if name == "state"]


@pytest.fixture
def given(tmp_path):
    """Writes centroids, in pixels, to a file; the options that begin with them."""

    def options(*pixels) -> dict:
        centroids = np.reshape(pixels, (len(pixels), -1)) / 255
        np.save(path := tmp_path / "given.npy", centroids)
        return {"k": len(pixels), "init": str(path), "algorithm": "lloyd"}

    return options


@pytest.fixture(scope="module")
def cloud(images_of):
    """Images without clusters, so that restarts end differently."""
    return images_of(np.random.default_rng(0).integers(0, 256, (200, 3), np.uint8))


def run(images, callback=None, **options):
    how = {name: options.pop(name) for name in ("clock", "state", "drawn") if name in options}
    config = FitConfig("", "", **{"algorithm": "lloyd", **options})
    return loop.run_restarts(images, config, callback or Recorder(), **how)


def pixels_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None]


# Restarts.


def test_the_restart_with_the_lowest_inertia_is_the_outcome(cloud):
    recorder = Recorder()
    fitted, _ = run(cloud, recorder, k=7, restarts=5, init="random")
    last = {record.restart: record.inertia for record in recorder.records}
    assert list(last) == [0, 1, 2, 3, 4]
    assert len(set(last.values())) > 1
    assert fitted.inertia == min(last.values()) == last[fitted.restart]
    alone, _ = run(cloud, k=7, restarts=fitted.restart + 1, init="random")
    np.testing.assert_array_equal(alone.centroids, fitted.centroids)


def test_of_equal_restarts_the_first_is_the_outcome(images_of):
    fitted, _ = run(images_of(pixels_of(3, 90, 200)), k=3, restarts=4, init="random")
    assert fitted.restart == 0
    assert fitted.inertia == 0
    assert fitted.centroids.dtype == np.float32


# The end.


def test_a_fit_ends_when_nothing_changes(cloud):
    recorder = Recorder()
    fitted, _ = run(cloud, recorder, k=7)
    assert fitted.converged
    assert fitted.iterations == len(recorder.records)
    assert [record.iteration for record in recorder.records] == [*range(1, fitted.iterations + 1)]
    assert recorder.records[-1].changed == 0 or recorder.records[-1].shift == 0
    assert all(record.changed for record in recorder.records[:-1])
    inertia = [record.inertia for record in recorder.records]
    assert all(a >= b for a, b in itertools.pairwise(inertia))


def test_a_fit_ends_at_the_last_iteration_it_may_take(cloud):
    fitted, _ = run(cloud, k=7, max_iterations=2)
    assert (fitted.iterations, fitted.converged) == (2, False)


def test_a_fit_ends_when_centroids_hardly_move(cloud):
    recorder, fine = Recorder(), Recorder()
    run(cloud, fine, k=7)
    tol = fine.records[1].shift
    fitted, _ = run(cloud, recorder, k=7, tol=tol)
    assert fitted.converged
    shifts = [record.shift for record in recorder.records]
    assert shifts[-1] <= tol
    assert all(shift > tol for shift in shifts[:-1])


# Empty clusters.


def test_empty_clusters_take_the_farthest_images(images_of, given):
    recorder = Recorder()
    fitted, _ = run(images_of(pixels_of(0, 10, 20, 100)), recorder, **given(0, 250, 255))
    # All are nearest to 0; 100 goes to the first empty cluster, 20 to the second.
    assert [record.empty for record in recorder.records] == [2, 0]
    after = recorder.states[0]
    np.testing.assert_allclose(after.centroids[:, 0] * 255, [5, 100, 20], rtol=1e-9)
    assert not after.converged
    assert after.total.counts.tolist() == [4, 0, 0]  # of the assignment, before it was filled
    assert recorder.records[0].inertia == pytest.approx(50 / 255**2)
    np.testing.assert_allclose(fitted.centroids[:, 0] * 255, [5, 100, 20], rtol=1e-6)


def test_the_only_image_of_a_cluster_stays(images_of, given):
    recorder = Recorder()
    run(images_of(pixels_of(0, 2, 150)), recorder, **given(0, 200, 255), max_iterations=1)
    found = recorder.states[0].centroids[:, 0] * 255
    np.testing.assert_allclose(found, [0, 150, 2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_equally_far_images_go_by_their_hash(images_of, given, replicas, seed):
    ids, pixels = ["a", "b", "c", "d"], np.array([[3, 4], [4, 3], [5, 0], [0, 5]], np.uint8)
    images = images_of(pixels, replicas, ids=ids)
    recorder = Recorder()
    run(images, recorder, **given((0, 0), (255, 255)), seed=seed, max_iterations=1)
    first = np.argmin(hashing.hashes(hashing.digests(ids), seed, "empty"))
    taken = recorder.states[0].centroids[1] * 255
    np.testing.assert_allclose(taken, pixels[first], rtol=1e-9, atol=1e-9)


def test_fewer_distinct_images_than_given_centroids(images_of, given):
    images = images_of(pixels_of(0, 0, 5, 5))
    with pytest.raises(UserError, match=r"--k 3: the set has only 2 distinct images; use --k 2"):
        run(images, **given(0, 5, 250))


# What callbacks are told, and when.


def test_callbacks_are_told_in_order(cloud):
    recorder = Recorder()
    fitted, seconds = run(cloud, recorder, k=3, init="k-means++", restarts=2, max_iterations=2)
    names = [entry[0] for entry in recorder.told]
    a_restart = ["seeding", "state"] * 3 + ["iteration", "state"] * 2 + ["state"]
    assert names == a_restart * 2
    seedings = [entry[1:] for entry in recorder.told if entry[0] == "seeding"]
    assert seedings == [(restart, count) for restart in (0, 1) for count in (1, 2, 3)]
    assert [len(state.chosen) for state in recorder.states[:4]] == [1, 2, 3, 0]
    last = recorder.states[-1]
    assert (last.restart, last.seconds) == (2, seconds)
    assert last.best is fitted


def test_seconds_are_those_of_the_clock(cloud):
    ticks = itertools.count()
    recorder = Recorder()
    _, seconds = run(
        cloud, recorder, k=3, init="random", restarts=2, max_iterations=3, clock=lambda: next(ticks)
    )
    assert seconds == Seconds(init=2, fit=6)  # two calls a seeding, two an iteration
    assert [record.seconds for record in recorder.records] == [1] * 6


# States.


@pytest.mark.parametrize("method", ["random", "k-means++", "k-means||"])
def test_a_fit_resumes_from_each_of_its_states(cloud, method):
    options = {"k": 6, "init": method, "restarts": 2, "max_iterations": 3}
    whole = Recorder()
    fitted, _ = run(cloud, whole, **options)
    for number, (name, state) in enumerate(entry[:2] for entry in whole.told):
        if name == "state":
            rest = Recorder()
            again, _ = run(cloud, rest, **options, state=state)
            np.testing.assert_array_equal(again.centroids, fitted.centroids)
            assert again[1:] == fitted[1:]
            left = [entry[1] for entry in whole.told[number:] if entry[0] == "iteration"]
            assert [r._replace(seconds=0) for r in rest.records] == [
                r._replace(seconds=0) for r in left
            ]


def test_images_drawn_for_a_larger_k_are_not_drawn_again(cloud):
    options = {"init": "k-means++", "max_iterations": 1}
    whole, few, known = Recorder(), Recorder(), Recorder()
    run(cloud, whole, k=8, **options)
    drawn = max((state.chosen for state in whole.states), key=len)
    assert len(drawn) == 8
    plain, _ = run(cloud, few, k=5, **options)
    fitted, _ = run(cloud, known, k=5, **options, drawn={0: drawn})
    np.testing.assert_array_equal(fitted.centroids, plain.centroids)
    assert len([entry for entry in few.told if entry[0] == "seeding"]) == 5
    assert [entry[1:] for entry in known.told if entry[0] == "seeding"] == [(0, 5)]


@pytest.mark.parametrize("shape", [(1, 1), (9, 3), (100, 17), (1000, 7)])
def test_a_shift_is_added_up_in_parts_as_numpy_does(monkeypatch, shape):
    monkeypatch.setattr(loop, "ADDED", 128)
    before, after = np.random.default_rng(0).random((2, *shape))
    whole = float(np.square(after - before).sum())
    assert loop._squared_shift(after.ravel(), before.ravel()) == whole

"""Callbacks of a caller: what they are told, how they stop a fit, and the adapters' logs."""

import contextlib
import sys
import types

import jobs
import numpy as np
import pytest
import shard_set

import kmeans_job
from job.callbacks import Following
from job.kmeans.loop import IterationRecord
from kmeans_job import UserError
from kmeans_job.callbacks import Callback, MLflow, WeightsAndBiases

RECORD = IterationRecord(0, 1, 12.5, 40, 0.25, 0, 0.5)
FAST = {"init": "random", "algorithm": "lloyd"}


@pytest.fixture(scope="module")
def shards(new_folder) -> str:
    random = np.random.default_rng(0)
    return shard_set.write(new_folder(), random.integers(0, 256, (300, 6)).astype(np.uint8))


class Heard(Callback):
    """Keeps what it is told, and stops after a number of iterations."""

    def __init__(self, last: int = 1_000):
        self.begin, self.records, self.end, self._last = {}, [], "nothing", last

    def on_begin(self, config):
        self.begin = config

    def on_iteration(self, record):
        self.records.append(record)
        return len(self.records) == self._last

    def on_end(self, metrics):
        self.end = metrics


def test_a_fit_tells_of_its_iterations(cpus, shards, tmp_path):
    heard = Heard()
    result = kmeans_job.fit(shards, tmp_path / "out", 4, callbacks=[heard, Callback()], **FAST)
    assert heard.begin == result.metrics["config"]
    assert [record._asdict() for record in heard.records] == result.history
    assert heard.end == result.metrics
    assert "stopped" not in result.metrics


def test_a_stopped_fit_is_one_of_so_many_iterations(cpus, shards, tmp_path):
    stopped = kmeans_job.fit(shards, tmp_path / "a", 4, callbacks=[Heard(2)], restarts=3, **FAST)
    expected = kmeans_job.fit(shards, tmp_path / "b", 4, max_iterations=2, **FAST)
    np.testing.assert_array_equal(stopped.centroids, expected.centroids)
    assert stopped.assignments.equals(expected.assignments)
    assert stopped.metrics["stopped"] == {"restart": 0, "iteration": 2}
    assert stopped.metrics["converged"] is False
    assert "stopped before convergence" in repr(stopped)


def test_what_a_callback_raises_ends_the_fit_which_resumes(cpus, shards, tmp_path):
    class Fails(Heard):
        def on_iteration(self, record):
            super().on_iteration(record)
            raise RuntimeError("disk of the caller")

    with pytest.raises(RuntimeError, match="disk of the caller"):
        kmeans_job.fit(shards, tmp_path / "out", 4, callbacks=[failed := Fails()], **FAST)
    assert failed.end is None
    resumed = kmeans_job.fit(shards, tmp_path / "out", 4, callbacks=[heard := Heard()], **FAST)
    assert heard.end == resumed.metrics
    assert [line["iteration"] for line in resumed.history] == [
        *range(1, resumed.metrics["iterations"] + 1)
    ]


def test_one_of_several_workers_cannot_stop():
    with pytest.raises(UserError, match="callbacks: one stops the fit, but 2 workers take part"):
        Following([Heard(1)], 2).on_iteration(RECORD)
    assert Following([Callback()], 2).on_iteration(RECORD) is None


def test_all_hear_of_the_end_when_one_cannot_begin():
    class Bad(Heard):
        def on_begin(self, config):
            raise ValueError("no server")

    first = Heard()
    with (
        pytest.raises(ValueError, match="no server"),
        Following([first, Bad()], 1).fit({"k": 3}),
    ):
        pass
    assert (first.begin, first.end) == ({"k": 3}, None)


def log_a_fit(callback: Callback, failed: bool = False) -> None:
    """Tells a callback of a fit of two iterations, which fails or not."""
    with contextlib.suppress(ZeroDivisionError), Following([callback], 1).fit({"k": 3}) as tell:
        following = Following([callback], 1)
        following.on_iteration(RECORD)
        following.on_iteration(RECORD._replace(restart=1, inertia=9.5))
        if failed:
            raise ZeroDivisionError
        tell({"inertia": 9.5, "converged": True, "purity": None, "cluster_sizes": [1, 2]})


@pytest.mark.parametrize(
    ("adapter", "module", "extra"),
    [(MLflow, "mlflow", "mlflow"), (WeightsAndBiases, "wandb", "wandb")],
)
def test_a_missing_library_is_named(monkeypatch, adapter, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    wanted = rf"callbacks: {module} is not installed; pip install 'kmeans-job\[{extra}\]'"
    with pytest.raises(UserError, match=wanted):
        adapter()


def test_calls_of_mlflow(monkeypatch):
    calls: list = []

    def fake(name):
        return lambda *args, **how: calls.append((name, *args, *how.values()))

    names = ("start_run", "log_params", "log_metrics", "end_run")
    active = types.SimpleNamespace(run=None)
    module = types.SimpleNamespace(
        active_run=lambda: active.run, **{name: fake(name) for name in names}
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    log_a_fit(MLflow("mine"))
    assert calls[:2] == [("start_run", "mine"), ("log_params", {"k": 3})]
    assert [(call[0], call[-1]) for call in calls[2:4]] == [("log_metrics", 1), ("log_metrics", 2)]
    assert calls[4:] == [("log_metrics", {"final_inertia": 9.5}), ("end_run", "FINISHED")]
    calls.clear()
    log_a_fit(MLflow(), failed=True)
    assert calls[-1] == ("end_run", "FAILED")
    calls.clear()
    active.run = object()
    log_a_fit(MLflow())
    assert {call[0] for call in calls} == {"log_params", "log_metrics"}


def test_mlflow_in_a_folder(tmp_path, monkeypatch):
    import mlflow

    # Later versions keep files for those only who say that they know better stores.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    log_a_fit(MLflow("mine"))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    assert run.data.params == {"k": "3"}
    assert run.data.metrics["final_inertia"] == 9.5
    history = client.get_metric_history(run.info.run_id, "inertia")
    assert [(point.step, point.value) for point in history] == [(1, 12.5), (2, 9.5)]
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")


@pytest.mark.slow
def test_wandb_offline(tmp_path):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    log_a_fit(WeightsAndBiases(mode="offline", dir=str(tmp_path), project="test"))
    assert wandb.run is None
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # A process of its own writes the file, and may still do so: two iterations, and the summary.
    assert jobs.wait_until(lambda: written.read_bytes().count(b"inertia") >= 3)
    content = written.read_bytes()
    assert b"purity" not in content  # it has no value


def test_calls_of_wandb(monkeypatch):
    calls: list = []
    run = types.SimpleNamespace(
        config=types.SimpleNamespace(update=lambda values, **_: calls.append(("config", values))),
        summary=types.SimpleNamespace(update=lambda values: calls.append(("summary", values))),
        log=lambda values: calls.append(("log", values["inertia"])),
        finish=lambda exit_code: calls.append(("finish", exit_code)),
    )
    module = types.SimpleNamespace(run=None, init=lambda **how: calls.append(how) or run)
    monkeypatch.setitem(sys.modules, "wandb", module)
    log_a_fit(WeightsAndBiases(project="p"))
    assert calls == [
        *({"project": "p"}, ("config", {"k": 3}), ("log", 12.5), ("log", 9.5)),
        *(("summary", {"inertia": 9.5}), ("finish", 0)),
    ]
    calls.clear()
    module.run = run
    log_a_fit(WeightsAndBiases(), failed=True)
    assert [call[0] for call in calls] == ["config", "log", "log"]

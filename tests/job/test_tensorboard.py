"""What one sees of a fit that goes on: event files read back, and history.jsonl as it grows."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job import fit as fitting
from job import sweep
from job import tensorboard as summaries
from job.config import FitConfig
from job.kmeans.loop import IterationRecord, State
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def shards(make_shards) -> str:
    return make_shards(np.rint(load_digits().images[:300] * (255 / 16)).astype(np.uint8))


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """By tag and step, what the event files in `folder` hold."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
        if tag != "centroids"
    }


def pictures(folder: Path) -> dict[int, np.ndarray]:
    """By step, the centroids' pictures, uint8 [m, h, w, c]."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    if "centroids" not in events.Tags()["tensors"]:
        return {}
    return {
        event.step: np.stack([tf.io.decode_png(data) for data in values[2:]])  # after their size
        for event in events.Tensors("centroids")
        for values in [tf.make_ndarray(event.tensor_proto)]
    }


def test_a_fit_leaves_what_tensorboard_shows(fit, shards, tmp_path):
    result = fit(shards, 6, tensorboard=str(tmp_path))
    found = scalars(tmp_path)
    assert found.keys() == {"inertia", "changed", "seconds"}
    for name, values in found.items():
        told = {line["iteration"]: line[name] for line in result.history}
        assert values == pytest.approx(told, rel=1e-6)
    last = result.metrics["iterations"]
    assert set(pictures(tmp_path)) == {1 << n for n in range(last.bit_length())} | {last}
    shown = result.centroids.reshape(6, 8, 8, 1) * 255
    np.testing.assert_allclose(pictures(tmp_path)[last], shown, atol=0.51)


def test_restarts_and_ks_are_runs_of_their_own(shards, cpus, tmp_path):
    logs = tmp_path / "logs"
    options = {"algorithm": "lloyd", "restarts": 2, "max_iterations": 1, "tensorboard": str(logs)}
    sweep.fit_each(FitConfig(shards, str(tmp_path / "out"), 3, **options), (2, 3))
    runs = {str(path.parent.relative_to(logs)) for path in logs.rglob("events.*")}
    assert runs == {f"k={k}/restart={r}" for k in (2, 3) for r in (0, 1)}


def test_none_are_written_unless_asked_for(fit, shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = fit(shards, 2, max_iterations=1)
    assert not list(tmp_path.rglob("events.*"))
    assert not list(result.folder.rglob("events.*"))


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [((2, 3), (5, 2, 3, 1)), ((1, 2, 3), (5, 1, 2, 3)), ((6,), None)],
    ids=str,
)
def test_pictures_have_the_shape_of_the_images(tmp_path, image_shape, expected):
    written = summaries.Summaries(str(tmp_path), image_shape, 1)
    written.on_iteration(IterationRecord(0, 1, 1.0, 1, 1.0, 0, 1.0))
    written.on_state(State(iteration=1, centroids=np.eye(5, 6)))
    written.on_state(State(iteration=3, centroids=np.eye(5, 6)))
    written.close()
    shapes = {step: array.shape for step, array in pictures(tmp_path).items()}
    assert shapes == ({1: expected} if expected else {})


def test_many_centroids_are_not_all_shown():
    assert summaries.centroid_pictures(np.zeros((250, 4)), (2, 2)).shape == (100, 2, 2, 1)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"--tensorboard logs: .*'kmeans-job\[tensorboard\]'"):
        summaries.check("logs")
    summaries.check(None)


def test_the_history_grows_as_iterations_end(shards, cpus, tmp_path):
    path, seen = tmp_path / "history.jsonl", []

    def clock() -> float:
        """Asked before and after each iteration; notes what a reader of the file sees then."""
        lines = path.read_text().splitlines() if path.exists() else []
        seen.append([json.loads(line)["iteration"] for line in lines])
        return 0.0

    fitting.fit(FitConfig(shards, str(tmp_path), 5, algorithm="lloyd"), clock=clock)
    iterations = len(seen[-1])
    assert iterations > 3
    assert all(list(range(1, count + 1)) in seen for count in range(iterations))


def test_a_folder_that_cannot_be_made(shards, cpus, tmp_path):
    (tmp_path / "logs").write_bytes(b"")
    config = FitConfig(shards, str(tmp_path / "out"), 2, tensorboard=str(tmp_path / "logs"))
    with pytest.raises(UserError, match="logs: cannot be written: Not a directory; give another"):
        fitting.fit(config)


def test_a_folder_whose_name_is_not_utf_8(shards, cpus, tmp_path):
    logs = tmp_path / os.fsdecode(b"caf\xe9")
    fitting.fit(FitConfig(shards, str(tmp_path / "out"), 1, tensorboard=str(logs), quiet=True))
    assert any(logs.iterdir())

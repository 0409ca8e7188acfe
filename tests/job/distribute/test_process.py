"""What a command sets up for a fit: in the environment, in TensorFlow, in the allocator."""

import json
import os
import subprocess
import sys

import jobs
import pytest

from job.distribute import process
from job.distribute.workers import WorkerGroup
from job.kmeans.precision import TF32

GROUP = WorkerGroup({"chief": ["a.example:1"], "worker": ["[::1]:2", "b.example:3"]}, "chief", 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "::1,a.example,b.example"),
        ({"no_proxy": "x"}, "x,::1,a.example,b.example"),
        ({"no_proxy": "x", "no_grpc_proxy": "y"}, "y,::1,a.example,b.example"),
    ],
)
def test_workers_are_reached_without_a_proxy(before, after):
    environment = dict(before)
    process.reach_without_proxy(GROUP, environment)
    assert environment == {**before, "no_grpc_proxy": after}


def test_a_worker_alone_needs_no_setting():
    process.reach_without_proxy(None, environment := {})
    assert environment == {}


@pytest.mark.parametrize(
    ("tf_keras", "before", "after"),
    [
        (None, {}, {"TF_USE_LEGACY_KERAS": "1"}),
        (None, {"TF_USE_LEGACY_KERAS": "0"}, {"TF_USE_LEGACY_KERAS": "0"}),
        ("its spec", {}, {}),
    ],
)
def test_keras_is_left_out_where_that_leaves_no_other(monkeypatch, tf_keras, before, after):
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: tf_keras)
    process.leave_out_keras(environment := dict(before))
    assert environment == after


def in_new_process(code: str, k: int = 10, **variables: str) -> dict:
    """What `code` prints as JSON in a process that has been prepared for a fit of k clusters.

    Args:
      variables: of its environment, beside those of this one.
    """
    program = (
        f"import gc, json, sys\nfrom job.distribute import process\nprocess.prepare({k})\n{code}"
    )
    environment = {name: os.environ[name] for name in os.environ if name != "TF_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": str(jobs.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_prepared_process():
    found = in_new_process(
        "import tensorflow as tf\n"
        "loaded = [name for name in ('keras', 'sklearn', 'apache_beam') if name in sys.modules]\n"
        "tf32 = tf.config.experimental.tensor_float_32_execution_enabled()\n"
        "print(json.dumps([loaded, tf32, gc.get_freeze_count() > 100_000, gc.isenabled()]))"
    )
    assert found == [[], False, True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_matrices_of_many_clusters_go_back_to_the_system():
    """Else a fit would hold what TensorFlow once held beside all that NumPy holds."""
    code = (
        "import numpy, tensorflow as tf\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "tf.zeros([1000]).numpy(); before = held()\n"
        "for make in (tf.ones, numpy.ones):\n"
        "    matrix = make((8000, 784), 'float64'); del matrix\n"
        "print(json.dumps((held() - before) / (8000 * 784 * 8)))"
    )
    assert in_new_process(code, process.MANY_CLUSTERS) < 0.5


def test_tensor_cores_are_used_where_they_are_asked_for():
    found = in_new_process(
        "from job.distribute import replicas\nprint(json.dumps(replicas._gpu_precision()))",
        NVIDIA_TF32_OVERRIDE="1",
    )
    assert found == list(TF32)


def test_keras_can_be_imported_later():
    """`--transform keras:PATH` loads models in a process whose TensorFlow was imported without."""
    found = in_new_process(
        "import keras, numpy\n"
        "model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])\n"
        "images = numpy.ones((3, 4), 'float32')\n"
        "print(json.dumps([keras.backend.backend(), model.predict(images, verbose=0).shape]))"
    )
    assert found == ["tensorflow", [3, 2]]


def leaving(status: int, tf_config: str) -> subprocess.CompletedProcess:
    """A process that leaves with a status and then says whether it is still there."""
    code = f"from job.distribute import process\nprint(process.leave({status}))"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(jobs.ROOT), "TF_CONFIG": tf_config},
        capture_output=True,
        text=True,
        timeout=300,
    )


TWO = json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}})


@pytest.mark.parametrize(
    ("status", "tf_config", "ended"),
    [(2, TWO, (2, "")), (0, TWO, (0, "0\n")), (2, "", (0, "2\n")), (2, "{", (0, "2\n"))],
)
def test_only_a_worker_that_has_failed_ends_at_once(status, tf_config, ended):
    done = leaving(status, tf_config)
    assert (done.returncode, done.stdout) == ended, done.stderr


def test_a_wrong_tf_config_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    done = subprocess.run(
        [sys.executable, "-m", "job", "fit", "--shards", tmp_path, "--output", "out", "--k", "2"],
        cwd=jobs.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "error: TF_CONFIG: cannot be understood" in done.stderr

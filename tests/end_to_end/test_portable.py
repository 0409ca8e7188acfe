"""The same bytes through Beam's job API: Prism with workers in this process, and in their own.

Flink's and Spark's job servers speak the same API.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jobs
import numpy as np
import prism
import pytest
import sets
from models import save_model

from job.cli import main

pytestmark = pytest.mark.slow
ENVIRONMENTS = ("LOOPBACK", "PROCESS")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prism.running(tmp_path_factory.mktemp("prism")) as started:
        yield started


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    """A folder of images, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    spec = sets.write_folder(folder, *sets.digits(300))
    (folder / "folder" / "1" / "broken.png").write_bytes(b"")
    return spec


@pytest.fixture(scope="module")
def keras_model(cpus, tmp_path_factory) -> str:
    """A saved model that makes vectors of such images, with weights of its own."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((6, 5, 1)), *layers])
    model.save(path := str(tmp_path_factory.mktemp("model") / "model.keras"))
    return path


@pytest.fixture(scope="module")
def commands(photos, keras_model, tmp_path_factory) -> dict[str, list[str]]:
    """By name, what is run on an engine, without its output."""
    size = ["--input", photos, "--num-shards", "4", "--quiet"]
    centroids = np.random.default_rng(3).random((3, 30))
    model = save_model(tmp_path_factory.mktemp("fit") / "model", centroids, (6, 5))
    return {
        "shard": ["shard", *size],
        "pca": ["shard", *size, "--transform", "pca:9"],
        "keras": ["shard", *size, "--transform", f"keras:{keras_model}"],
        "assign": ["assign", *size, "--model", str(model)],
    }


@pytest.fixture(scope="module")
def here(commands, new_folder) -> Callable[[str], dict[str, bytes]]:
    """What a command leaves when it is run in process."""
    made: dict[str, dict[str, bytes]] = {}

    def run(name: str) -> dict[str, bytes]:
        if name not in made:
            output = new_folder() / "out"
            assert main([*commands[name], "--output", str(output)]) == 0
            made[name] = files_of(output)
        return made[name]

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["shard", "pca", "keras", "assign"])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_same_bytes(server, commands, here, tmp_path, environment, name):
    before = server.pids
    flags = server.environments[environment]
    assert main([*commands[name], "--output", str(tmp_path / "out"), *flags]) == 0
    assert files_of(tmp_path / "out") == here(name)
    assert len(server.pids - before) == (environment == "PROCESS")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_fault_is_one_line(server, commands, tmp_path, capfd, environment):
    flags = ("--max-rejected", "0", *server.environments[environment])
    assert main([*commands["shard"], "--output", str(tmp_path / "out"), *flags]) == 2
    error = capfd.readouterr().err
    assert "1 of 301 images cannot be read, more than the 0 % allowed" in error
    assert error.count("\n") == 1
    assert "manifest.json" not in files_of(tmp_path / "out")


def test_a_worker_that_is_killed(server, tmp_path, capfd):
    """Killed when it has begun to write; the same command again is then as good as new."""
    spec, output = sets.write_folder(tmp_path, *sets.digits(3000)), tmp_path / "out"
    command = ["shard", "--input", spec, "--num-shards", "4", "--quiet"]
    before, killed = server.pids, []
    end = time.monotonic() + jobs.PATIENCE_SECONDS

    def kill() -> None:
        while not killed and time.monotonic() < end:
            if output.exists() and os.listdir(output):
                (pid,) = server.pids - before
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.005)

    flags = ("--output", str(output), *server.environments["PROCESS"])
    (watcher := threading.Thread(target=kill)).start()
    assert main([*command, *flags]) == 1
    watcher.join()
    assert killed
    error = capfd.readouterr().err
    assert "error: the engine lost a worker process amid its work (" in error
    assert error.endswith("; run the same command again\n")
    assert error.count("\n") == 1
    assert "manifest.json" not in files_of(output)
    assert main([*command, *flags]) == 0
    assert main([*command, "--output", str(tmp_path / "one")]) == 0
    assert files_of(output) == files_of(tmp_path / "one")


def test_ctrl_c_cancels_the_job(server, tmp_path):
    """The workers, which are no children of the command, end too."""
    spec, output = sets.write_folder(tmp_path, *sets.digits(3000)), tmp_path / "out"
    flags = ["--input", spec, "--output", str(output), "--num-shards", "4", "--quiet"]
    command = [sys.executable, "-P", "-m", "job", "shard", *flags, *server.environments["PROCESS"]]
    environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT)}
    before = server.pids
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with jobs.ended([process]):
        assert jobs.wait_until(lambda: output.exists() and bool(os.listdir(output)), process)
        (worker,) = server.pids - before
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=jobs.PATIENCE_SECONDS)[1] == "kmeans-job: interrupted\n"
    assert process.returncode == 130
    end = time.monotonic() + jobs.PATIENCE_SECONDS
    while is_alive(worker):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "manifest.json" not in files_of(output)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_prism_by_name(commands, here, tmp_path, capfd):
    """Beam starts it, and ends it with the process."""
    flags = ("--runner", "PrismRunner", "--prism_location", str(prism.binary()))
    assert main([*commands["shard"], "--output", str(tmp_path / "out"), *flags]) == 0
    error = capfd.readouterr().err
    assert "1 of 301 images could not be read" in error
    assert error.count("\n") == 1
    assert files_of(tmp_path / "out") == here("shard")

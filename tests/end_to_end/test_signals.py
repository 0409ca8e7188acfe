"""Ctrl-C and SIGTERM to real processes: one line, status 130 or 143, and no child is left."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cloud_doubles
import jobs
import numpy as np
import pytest
import result_folder
from models import save_model

SEED = 20240611
INTERRUPTED = "kmeans-job: interrupted\n"
ENDED = "kmeans-job: error: SIGTERM: ended"
# Ctrl-C reaches all processes of a terminal, `kill` the one it is given.
SENDERS = [
    pytest.param(signal.SIGINT, os.killpg, id="Ctrl-C"),
    pytest.param(signal.SIGTERM, os.kill, id="SIGTERM"),
]
ALL_SENDERS = [
    *SENDERS,
    pytest.param(signal.SIGINT, os.kill, id="SIGINT to one"),
    pytest.param(signal.SIGTERM, os.killpg, id="SIGTERM to all"),
]
PROCESSES = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
NUM_IMAGES, SIDE = 2_000_000, 28  # more than are read before a signal comes

# `submit`, whose Dataflow runs for ever.
SUBMIT = """
import sys
import cloud_doubles
from job import start
from job.cloud import services

with cloud_doubles.dataflow() as service:
    service.states = ["JOB_STATE_RUNNING"]
    jobs = cloud_doubles.CustomJobs()
    services.make_clients = lambda region: cloud_doubles.clients(service, jobs)
    sys.argv += service.beam_flags
    sys.exit(start.main())
"""


class Work(NamedTuple):
    """A command, and how one sees from outside that it is at work."""

    command: list
    is_at_work: Callable[[], bool]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A file of black images that takes no room on the disk."""
    path = tmp_path_factory.mktemp("images") / "x.npy"
    shape = (NUM_IMAGES, SIDE, SIDE)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    return path


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def any_of(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(folder.glob(pattern))


def sharding(images: Path, output: Path, *flags: str) -> Work:
    command = ["shard", "--input", images, "--output", output, "--num-shards", 500]
    return Work([*command, "--quiet", *flags], any_of(output, "images-*.tfrecord"))


def assigning(images: Path, output: Path) -> Work:
    model = save_model(
        output.with_name("model"), np.random.default_rng(0).random((3, 784)), (28, 28)
    )
    command = ["assign", "--model", model, "--input", images, "--output", output]
    return Work([*command, "--num-shards", 500, "--quiet"], any_of(output, "assignments/*.parquet"))


def fitting(output: Path, make_shards) -> Work:
    """Random images keep a fit busy for longer than it takes to interrupt it."""
    shards = make_shards(np.random.default_rng(0).integers(0, 256, (30_000, 64), dtype=np.uint8))
    command = ["fit", "--shards", shards, "--output", output, "--k", 100, "--restarts", 1000]
    return Work([*command, "--quiet"], lambda: jobs.num_iterations(output) > 0)


def reporting(output: Path) -> Work:
    """A report that waits for ever for what another process puts into a pipe."""
    result_folder.digits(output)
    (output / "examples.npz").unlink()
    os.mkfifo(output / "examples.npz")

    def is_open() -> bool:
        try:
            os.close(os.open(output / "examples.npz", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    return Work(["report", "--run", output], is_open)


def started(command: list, script: str | None = None) -> subprocess.Popen:
    """A command in a process group of its own; Ctrl-C is not ignored there."""
    begin = ["-m", "job"] if script is None else ["-c", script]
    return subprocess.Popen(
        [sys.executable, *begin, *map(str, command)],
        cwd=jobs.ROOT,
        env={**os.environ, "PYTHONPATH": f"{jobs.ROOT}:{Path(cloud_doubles.__file__).parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def members(group: int) -> Iterator[int]:
    """The processes of a group that are alive."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended
            continue
        if int(its_group) == group and state != "Z":
            yield int(path.parent.name)


def handles_signals(process: subprocess.Popen) -> bool:
    """Whether a process has a handler for SIGTERM, which Python itself has not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def check_end(process: subprocess.Popen, number: int, send, may_be_done: bool = False) -> None:
    """Sends a signal; the process ends as it should, and all that it has started."""
    try:
        send(process.pid, number)
        _, stderr = process.communicate(timeout=jobs.PATIENCE_SECONDS)
        if may_be_done and process.returncode == 0:
            assert stderr == ""
        else:
            assert process.returncode == 128 + number, stderr
            assert stderr.count("\n") == 1
            assert stderr.startswith(INTERRUPTED if number == signal.SIGINT else ENDED)
        end = time.monotonic() + jobs.PATIENCE_SECONDS
        while any(members(process.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not list(members(process.pid))
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)


def check_at_work(work: Work, number: int, send, script: str | None = None) -> None:
    process = started(work.command, script)
    with jobs.ended([process]):
        assert jobs.wait_until(work.is_at_work, process), process.communicate()
        check_end(process, number, send)


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_begins(tmp_path, number, send):
    command = ["fit", "--shards", tmp_path, "--output", tmp_path / "out", "--k", 2]
    process = started(command)
    with jobs.ended([process]):
        assert jobs.wait_until(lambda: handles_signals(process), process)
        check_end(process, number, send)


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_shards(images, output, number, send):
    check_at_work(sharding(images, output), number, send)
    assert not (output / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "send"), ALL_SENDERS)
def test_while_worker_processes_shard(images, output, number, send):
    check_at_work(sharding(images, output, *PROCESSES), number, send)
    assert not (output / "manifest.json").exists()


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_assigns(images, output, number, send):
    check_at_work(assigning(images, output), number, send)
    assert not (output / "manifest.json").exists()


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_fits(output, make_shards, number, send):
    check_at_work(fitting(output, make_shards), number, send)
    assert not (output / "metrics.json").exists()
    assert any((output / "checkpoint").iterdir())


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_reports(output, number, send):
    check_at_work(reporting(output), number, send)


@pytest.mark.parametrize(("number", "send"), SENDERS)
def test_while_it_waits_for_the_cloud(emulator, tmp_path, number, send):
    command = cloud_doubles.submit_command("--wait", input="digits", output=f"{emulator}/{number}")
    process = started(command, SUBMIT)
    with jobs.ended([process]):
        assert any("running" in line for line in process.stdout)
        check_end(process, number, send)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "shard", "assign", "fit"])
def test_at_random_moments(output, command, make_shards):
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(SEED)
    model = save_model(output.with_name("model"), np.random.default_rng(0).random((3, 64)), (8, 8))
    flags = {
        "run": ["--input", "digits", "--k", 10],
        "shard": ["--input", "digits"],
        "assign": ["--input", "digits", "--model", model],
        "fit": [
            "--shards",
            make_shards(np.zeros((9, 64), np.uint8) + np.arange(64, dtype=np.uint8)),
            "--k",
            1,
        ],
    }[command]
    for number in range(12):
        sent = rng.choice(ALL_SENDERS).values
        folder = output.with_name(f"out{number}")
        process = started([command, "--output", folder, *flags, "--quiet"])
        with jobs.ended([process]):
            assert jobs.wait_until(lambda p=process: handles_signals(p), process)
            time.sleep(rng.uniform(0, 5))
            check_end(process, *sent, may_be_done=True)

"""Real processes of the job, and what their result folders must hold."""

import contextlib
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from job.checkpoint import decode

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240.0  # for what takes seconds on a machine with nothing else to do


def shard(folder: Path, num_shards: int, source: str = "digits") -> Path:
    """The shards of `source` in `folder`."""
    options = ["--input", source, "--output", folder, "--num-shards", num_shards, "--quiet"]
    command = [sys.executable, "-m", "job", "shard", *map(str, options)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=PATIENCE_SECONDS)
    return folder


def start(output: Path, *options, number: int = 0, **variables: str) -> subprocess.Popen:
    """A process of `fit`; what it says on stderr is in `errors_of`."""
    command = [sys.executable, "-m", "job", "fit", "--quiet", "--output", output, *options]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    with errors_path(output, number).open("wb") as errors:
        return subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=environment | variables, stderr=errors
        )


def start_workers(output: Path, count: int, *options, absent=()) -> list[subprocess.Popen]:
    """`fit` as `count` workers on loopback, less those in `absent`."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    started = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        if index not in absent:
            config = json.dumps(task)
            started.append(start(output, *options, number=index, TF_CONFIG=config))
    return started


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def errors_path(output: Path, number: int = 0) -> Path:
    return output.with_name(f"{output.name}.{number}.stderr")


def errors_of(output: Path, number: int = 0) -> str:
    return errors_path(output, number).read_text(errors="replace")


def last_line(output: Path, number: int = 0) -> str:
    return errors_of(output, number).strip().splitlines()[-1]


def wait(*processes: subprocess.Popen) -> list[int]:
    """Exit statuses; processes that take too long are killed."""
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        return [process.wait(max(0.1, end - time.monotonic())) for process in processes]
    finally:
        end_all(processes)


def end_all(processes) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def ended(processes: list[subprocess.Popen]) -> Iterator[list[subprocess.Popen]]:
    """Kills what is left of `processes` at the end."""
    try:
        yield processes
    finally:
        end_all(processes)


def fit(output: Path, *options, **variables: str) -> int:
    return wait(start(output, *options, **variables))[0]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen | None = None) -> bool:
    """Whether `condition` became true before the process, if one is given, ended."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (process is None or process.poll() is None) and time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def num_iterations(output: Path) -> int:
    """Lines of history.jsonl."""
    path = output / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def outcome(output: Path) -> dict[str, str]:
    """Digests of what must be the same however a result came about."""
    rows = pq.read_table(output / "assignments").sort_by("id")
    history = [json.loads(line) for line in (output / "history.jsonl").open()]
    for record in history:
        del record["seconds"]
    metrics = json.loads((output / "metrics.json").read_text())
    kept = ("inertia", "cluster_sizes", "contingency", "purity", "iterations", "restart")
    return {
        "centroids": _digest((output / "centroids.npy").read_bytes()),
        "assignments": _digest(repr(rows.select(["id", "cluster"]).to_pydict()).encode()),
        "distances": _digest(repr(rows["distance"].to_pylist()).encode()),
        "history": _digest(repr(history).encode()),
        "metrics": _digest(repr([metrics[name] for name in kept]).encode()),
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def check_whole(output: Path) -> None:
    """Every file that a reader may see is whole, and a result with metrics.json is complete."""
    for path in [path for path in output.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        if path.parent.name == "checkpoint" and path.suffix != ".tmp":
            decode(io.BytesIO(data))
        elif path.suffix == ".parquet":
            pq.read_table(io.BytesIO(data))
        elif path.suffix in (".npy", ".npz"):
            np.load(io.BytesIO(data))
        elif path.suffix == ".html":
            assert data.rstrip().endswith(b"</html>")
        elif path.suffix == ".jsonl":
            assert all(map(json.loads, data.splitlines()))
        elif path.suffix == ".json":
            json.loads(data)
    if (output / "metrics.json").exists():
        names = {path.name for path in output.iterdir()}
        assert names >= {"centroids.npy", "examples.npz", "report.html", "history.jsonl"}
        assert (output / "model" / "saved_model.pb").exists()

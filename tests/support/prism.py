"""Prism, Beam's own job server, built here from its source and started on this machine."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jobs
import pytest
from apache_beam.version import __version__

PACKAGE = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{__version__}"
CACHE = Path.home() / ".cache" / "kmeans-job" / f"prism-{__version__}"
BUILD_SECONDS = 900  # four minutes on two cores that do nothing else


class Prism(NamedTuple):
    """A Prism at work.

    Attributes:
      flags: of Beam, that lead a job here.
      started: folder with a file for each worker process that it has started, named after its pid.
      worker: the program that it starts for `--environment_type PROCESS`.
    """

    flags: tuple[str, ...]
    started: Path
    worker: Path

    @property
    def environments(self) -> dict[str, tuple[str, ...]]:
        """By type, the flags of where the workers are."""
        here, process = (*self.flags, "--environment_type"), f'{{"command": "{self.worker}"}}'
        return {
            "LOOPBACK": (*here, "LOOPBACK"),
            "PROCESS": (*here, "PROCESS", "--environment_config", process),
        }

    @property
    def pids(self) -> set[int]:
        return {int(path.name) for path in self.started.iterdir()}


def binary() -> Path:
    """Prism's program, built where it is not there yet; skips the test where it cannot be."""
    go = shutil.which("go", path=f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin")
    path = CACHE / "prism"
    if go is None and not path.exists():
        pytest.skip(f"no Go to build Prism, and none at {path}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # tests in other processes want it too
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            build(go)
    return path


def build(go: str | None) -> None:
    """Builds Prism into CACHE; skips the test if its source cannot be had."""
    environment = {**os.environ, "GOBIN": str(CACHE)}
    how: dict[str, Any] = {"env": environment, "capture_output": True, "timeout": BUILD_SECONDS}
    try:
        done = subprocess.run([go, "install", PACKAGE], text=True, **how)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} was not built within {BUILD_SECONDS} s")
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be built: {done.stderr.strip().splitlines()[-1]}")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Prism]:
    """Prism on a free port; what it prints is in `folder`."""
    program = binary()
    (port,) = jobs.free_ports(1)
    (started := folder / "started").mkdir()
    worker = folder / "worker"
    worker.write_text(
        f'#!/bin/sh\ntouch "{started}/$$"\n'
        f'exec "{sys.executable}" -P -m pipeline.transforms.worker "$@"\n'
    )
    worker.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT)}
    command = [program, "--job_port", str(port), "--serve_http=false"]
    with (folder / "prism.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    with jobs.ended([process]):
        flags = ("--runner", "PortableRunner", "--job_endpoint", f"localhost:{port}")
        yield Prism(flags, started, worker)

"""The same command on other engines gives the same bytes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jobs
import pytest
import sets

from pipeline.cli import main

PROCESSES = ("--direct_num_workers", "2", "--direct_running_mode", "multi_processing")
THREADS = ("--direct_num_workers", "2", "--direct_running_mode", "multi_threading")
DASK = ("--runner", "apache_beam.runners.dask.dask_runner.DaskRunner", "--dask_npartitions", "4")
JARS = Path.home() / ".m2" / "repository" / "org" / "apache" / "beam"


def shard(spec: str, folder, *flags: str) -> int:
    return main(["--input", spec, "--output", str(folder), "--num-shards", "4", "--quiet", *flags])


def images(folder, kind: str, size: int = 300) -> str:
    """A set of a format, with a broken image where a format can have one."""
    spec = sets.FORMATS[kind](folder, *sets.digits(size))
    if kind == "folder":
        (folder / "folder" / "1" / "broken.png").write_bytes(b"")
    return spec


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of Dask and their scheduler, on this machine."""
    distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed")
    size = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with distributed.LocalCluster(**size, dashboard_address=None) as made:
        yield distributed.Client(made)
        for client in list(distributed.Client._instances):  # Beam leaves its own open
            client.close()


def on(cluster) -> tuple[str, ...]:
    return (*DASK, "--dask_client_address", cluster.scheduler.address)


SLOW_KINDS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("idx", "TFRecord")]


@pytest.mark.parametrize("kind", ["folder", "Parquet", *SLOW_KINDS])
def test_two_processes(tmp_path, kind):
    spec = images(tmp_path, kind)
    assert shard(spec, tmp_path / "one") == 0
    assert shard(spec, tmp_path / "two", *PROCESSES) == 0
    assert sets.contents(tmp_path / "two") == sets.contents(tmp_path / "one")


def test_threads(tmp_path):
    spec = images(tmp_path, "folder")
    assert shard(spec, tmp_path / "one") == 0
    assert shard(spec, tmp_path / "two", *THREADS) == 0
    assert sets.contents(tmp_path / "two") == sets.contents(tmp_path / "one")


@pytest.mark.parametrize(
    "content",
    ["raise RuntimeError('mine')", pytest.param("while True: pass", marks=pytest.mark.slow)],
)
def test_two_processes_amid_files_of_the_user(tmp_path, content):
    """Modules of the current folder, which a worker must not take for the real ones."""
    spec = images(tmp_path, "idx")
    assert shard(spec, tmp_path / "one") == 0
    (here := tmp_path / "here").mkdir()
    for name in ("pipeline", "job", "proto", "json", "apache_beam"):
        (here / f"{name}.py").write_text(content)
    flags = ["--input", spec, "--num-shards", "4", "--quiet", *PROCESSES]
    # -P stands for the installed command, which does not look into the current folder either.
    command = [sys.executable, "-P", "-m", "job", "shard", *flags, "--output", tmp_path / "two"]
    environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT)}
    subprocess.run(command, check=True, cwd=here, env=environment, timeout=jobs.PATIENCE_SECONDS)
    assert sets.contents(tmp_path / "two") == sets.contents(tmp_path / "one")


def test_a_process_that_cannot_start(tmp_path, monkeypatch, capsys):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'WORKER_ID' in os.environ:\n"
        "    print('no licence', file=sys.stderr, flush=True)\n"
        "    os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{jobs.ROOT}")
    spec = images(tmp_path, "idx")
    assert shard(spec, tmp_path / "out", *PROCESSES) == 1
    error = capsys.readouterr().err
    assert "error: --direct_running_mode multi_processing: a worker process could not s" in error
    assert "(exit status 3): no licence; mend what it says, or leave the option out" in error
    assert error.count("\n") == 1
    assert "manifest.json" not in sets.contents(tmp_path / "out")


def test_vectors_on_a_cluster(tmp_path, cluster):
    spec, flags = images(tmp_path, "folder"), ("--transform", "pca:9")
    assert shard(spec, tmp_path / "one", *flags) == 0
    assert shard(spec, tmp_path / "many", *flags, *on(cluster)) == 0
    assert sets.contents(tmp_path / "many") == sets.contents(tmp_path / "one")


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_a_cluster(tmp_path, kind, cluster):
    spec = images(tmp_path, kind)
    assert shard(spec, tmp_path / "one") == 0
    assert shard(spec, tmp_path / "many", *on(cluster)) == 0
    assert sets.contents(tmp_path / "many") == sets.contents(tmp_path / "one")
    worked = cluster.run(lambda: (os.getpid(), "pipeline.transforms.shard_images" in sys.modules))
    assert len({pid for pid, _ in worked.values()}) == 2
    assert all(loaded for _, loaded in worked.values())


def test_a_fault_on_a_cluster(tmp_path, cluster, capsys):
    spec = images(tmp_path, "folder", 30)
    assert shard(spec, tmp_path / "out", "--max-rejected", "0", *on(cluster)) == 2
    assert "1 of 31 images cannot be read, more than the" in capsys.readouterr().err
    assert "manifest.json" not in sets.contents(tmp_path / "out")


@pytest.mark.slow
def test_a_worker_that_is_killed(tmp_path, cluster):
    """Killed when it has begun to write: another takes its pieces."""
    spec = images(tmp_path, "folder", 8000)
    assert shard(spec, tmp_path / "whole") == 0
    killed: list[int] = []
    victim = next(iter(cluster.run(os.getpid).values()))

    def kill() -> None:
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            if (tmp_path / "out").exists() and os.listdir(tmp_path / "out"):
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            time.sleep(0.005)

    (watcher := threading.Thread(target=kill)).start()
    assert shard(spec, tmp_path / "out", *on(cluster)) == 0
    watcher.join()
    assert killed
    assert victim not in cluster.run(os.getpid).values()
    assert sets.contents(tmp_path / "out") == sets.contents(tmp_path / "whole")


@pytest.mark.slow
def test_flink(tmp_path):
    jars = sorted(JARS.glob("beam-runners-flink-*-job-server/2.77.0/*-2.77.0.jar"))
    if not jars:
        pytest.skip(f"no job server of Beam 2.77.0 for Flink in {JARS}")
    spec = images(tmp_path, "folder")
    flink = ("--runner", "FlinkRunner", "--flink_master", "[local]", "--parallelism", "2")
    assert shard(spec, tmp_path / "one") == 0
    flags = (*flink, "--flink_job_server_jar", str(jars[-1]), "--environment_type", "LOOPBACK")
    assert shard(spec, tmp_path / "flink", *flags) == 0
    assert sets.contents(tmp_path / "flink") == sets.contents(tmp_path / "one")

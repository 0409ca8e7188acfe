"""`submit --wait` from end to end: stand-ins for the services that do the work, here.

Dataflow's workers are processes that run the graph as it was staged in the emulated bucket, Vertex
AI's are processes of the containers' commands. What comes out has the bits of `run`.
"""

import functools
import os
import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import cloud_doubles
import executing_dataflow
import executing_vertex
import published
import pytest
import sets

from job.cli import main
from job.cloud import submit
from pipeline import storage

pytestmark = pytest.mark.slow
NUM_IMAGES = 2000
ENOUGH = 3  # iterations, of the 37 of the fit
OPTIONS = ("--k", "10", "--algorithm", "lloyd", "--checkpoint-seconds", "0", "--seed", "3")


class Cloud:
    """A project of Google Cloud on this machine.

    Attributes:
      meanwhile: called whenever `submit` waits for a job.
    """

    def __init__(self, dataflow, output: str, folder: Path):
        self.dataflow, self.output = dataflow, output
        self.vertex = executing_vertex.ExecutingCustomJobs(folder)
        self.meanwhile: Callable[[], None] = lambda: None

    def submit(self, spec: str, *flags: str) -> int:
        """`submit --wait` on two workers; the exit status."""
        line = cloud_doubles.submit_command(input=spec, output=self.output, k=None)
        beam = self.dataflow.beam_flags
        return main([*line, *OPTIONS, "--workers", "2", "--wait", "--quiet", *flags, *beam])

    def gcloud(self, line: str) -> None:
        """Does what a command line says that `submit` has printed."""
        words = shlex.split(line)
        where = {"--project": cloud_doubles.PROJECT, "--region": cloud_doubles.REGION}
        assert dict(zip(words[-4::2], words[-3::2], strict=True)) == where
        if words[:4] == ["gcloud", "dataflow", "jobs", "cancel"]:
            path = f"/jobs/{words[4]}"
            self.dataflow.answer("PUT", path, b'{"requestedState": "JOB_STATE_CANCELLED"}')
        else:
            assert words[:4] == ["gcloud", "ai", "custom-jobs", "cancel"]
            (name,) = (name for name in self.vertex.jobs if name.endswith(f"/{words[4]}"))
            self.vertex.jobs[name].cancel()

    def shard(self, spec: str) -> None:
        """Makes the shards in this process."""
        line = ["shard", "--input", spec, "--output", self.shards, "--num-shards", "2"]
        assert main([*line, "--overwrite", "--quiet"]) == 0

    @property
    def shards(self) -> str:
        return f"{self.output}/shards"

    @property
    def sharding(self) -> executing_dataflow.Job:
        return list(self.dataflow.jobs.values())[-1]

    @property
    def fit(self) -> executing_vertex.Job:
        return list(self.vertex.jobs.values())[-1]

    @property
    def iterations(self) -> int:
        """Those of the newest checkpoint."""
        names = storage.list_names(f"{self.output}/checkpoint")
        return max((int(n) for name in names for n in re.findall(r"state-(\d+)$", name)), default=0)


@pytest.fixture
def cloud(bucket, tmp_path, monkeypatch):
    with executing_dataflow.running(tmp_path) as service:
        made = Cloud(service, f"{bucket}/out", tmp_path)
        clients = cloud_doubles.clients(service, made.vertex)
        monkeypatch.setattr("job.cloud.services.make_clients", lambda region: clients)

        def nap(seconds: float) -> None:
            made.meanwhile()
            time.sleep(0.1)

        monkeypatch.setattr(submit, "submit", functools.partial(submit.submit, sleep=nap))
        yield made
        for job in made.vertex.jobs.values():
            job.end()


@pytest.fixture(scope="module")
def local(cpus, tmp_path_factory) -> Path:
    """A set, and the result of `run` on it."""
    folder = tmp_path_factory.mktemp("local")
    sets.write_npz(folder, *sets.digits(NUM_IMAGES))
    flags = ["--input", str(folder / "set.npz"), "--output", str(folder / "out"), "--quiet"]
    assert main(["run", *flags, *OPTIONS]) == 0
    return folder


@pytest.fixture
def images(local, bucket) -> str:
    """The set in the bucket."""
    storage.write_bytes(path := f"{bucket}/set.npz", (local / "set.npz").read_bytes())
    return path


@pytest.fixture
def sharded(cloud, images) -> str:
    """The set in the bucket, whose shards are there already."""
    cloud.shard(images)
    return images


@pytest.fixture
def result(cloud, tmp_path):
    """Copies the result from the bucket; what was published."""

    def read() -> published.Published:
        for name in storage.walk(cloud.output):
            (path := tmp_path / "result" / name).parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read_bytes(f"{cloud.output}/{name}"))
        return published.read(tmp_path / "result")

    return read


def test_the_result_has_the_bits_of_run(cloud, images, local, result, capsys):
    assert cloud.submit(images, "--num-shards", "4") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{cloud.output}/report.html"
    assert result().bits() == published.read(local / "out").bits()
    assert result().metrics["workers"] == 2
    # And the shards those of one process.
    flags = ["--input", str(local / "set.npz"), "--num-shards", "4", "--quiet"]
    assert main(["shard", *flags, "--output", str(local / "shards")]) == 0
    here = sets.contents(local / "shards")
    names = storage.list_names(cloud.shards)
    there = {name: storage.read_bytes(f"{cloud.shards}/{name}") for name in names}
    assert here.keys() == there.keys()
    assert {n for n in here if here[n] != there[n]} == {"manifest.json"}  # it names the input
    assert (cloud.sharding.attempts, cloud.fit.attempts) == (1, 1)


def test_machines_that_are_taken_away(cloud, images, local, result):
    """One of Dataflow's, while it writes; one of Vertex AI's, half-way through the fit."""
    lost: list[int] = []

    def take() -> None:
        if not lost and storage.list_names(cloud.shards) and (workers := cloud.sharding.workers):
            os.kill(workers[0], signal.SIGKILL)
            lost.append(workers[0])
        if cloud.iterations >= ENOUGH and cloud.fit.attempts == 1:
            cloud.fit.preempt(1)

    cloud.meanwhile = take
    assert cloud.submit(images, "--num-shards", "16", "--spot") == 0
    assert lost
    assert (cloud.sharding.attempts, cloud.fit.attempts) == (2, 2)
    assert result().bits() == published.read(local / "out").bits()


def test_a_service_that_does_not_start_the_workers_again(cloud, sharded, local, result, capsys):
    """The job fails then, and the same command again resumes."""
    cloud.vertex.restarts = False

    def take() -> None:
        if cloud.iterations >= ENOUGH:
            cloud.fit.preempt(1)

    cloud.meanwhile = take
    assert cloud.submit(sharded, "--spot") == 1
    why = "Vertex AI job 1: failed (Replica 1 exited with a non-zero status of -9.); its log says"
    assert why in capsys.readouterr().err
    assert cloud.iterations >= ENOUGH
    cloud.meanwhile = lambda: None
    assert cloud.submit(sharded, "--spot") == 0
    assert "Dataflow is not needed" in capsys.readouterr().out
    assert result().bits() == published.read(local / "out").bits()


def test_an_image_that_dataflow_cannot_pull(cloud, images, capsys):
    cloud.dataflow.images.clear()
    assert cloud.submit(images) == 1
    error = capsys.readouterr().err
    why = f"(Error syncing pod: ErrImagePull: {cloud_doubles.IMAGE}: not found)"
    assert f"Dataflow job 2026-01-01_00_00_00-1: failed {why}; its log says more: http" in error
    assert error.count("\n") == 1
    assert not cloud.vertex.jobs


def test_an_image_that_vertex_cannot_pull(cloud, sharded, capsys):
    cloud.vertex.images.clear()
    assert cloud.submit(sharded) == 1
    why = f"Vertex AI job 1: failed (Image '{cloud_doubles.IMAGE}' not found.); its log says more"
    assert why in capsys.readouterr().err
    assert storage.list_names(cloud.output) == ["shards"]


def test_jobs_that_are_cancelled(cloud, images, capsys):
    """With the commands that `submit` prints."""
    printed: list[str] = []

    def cancel() -> None:
        printed.append(capsys.readouterr().out)
        cloud.gcloud(re.findall(r"^  cancel  (.*)$", "".join(printed), re.MULTILINE)[-1])

    cloud.meanwhile = cancel
    assert cloud.submit(images) == 1
    assert re.search(r"Dataflow job \S+: cancelled; its log", capsys.readouterr().err)
    assert "manifest.json" not in storage.list_names(cloud.shards)
    cloud.shard(images)
    assert cloud.submit(images) == 1
    assert "Vertex AI job 1: cancelled; its log says more" in capsys.readouterr().err
    assert "metrics.json" not in storage.list_names(cloud.output)
    assert all(worker.poll() is not None for worker in cloud.fit.workers)

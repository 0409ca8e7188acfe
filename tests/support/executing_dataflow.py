"""A stand-in for Dataflow that does the work: the graph that was staged, in processes here."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cloud_doubles
import dataflow_engine
import jobs

ATTEMPTS = 4  # Dataflow tries a piece of work so many times


class Job:
    """A job and its processes.

    Attributes:
      body: the request that created it.
      attempts: how often its work was begun.
    """

    def __init__(self, number: str, body: dict, folder: Path, images: set[str]):
        self.id, self.body, self.attempts = number, body, 0
        self._log, self._state = folder / f"{number}.log", ""
        self._process: subprocess.Popen | None = None
        (pool,) = body["environment"]["workerPools"]
        image = pool["workerHarnessContainerImage"]
        if image in images:
            self._start()
        else:
            self._log.write_text(f"Error syncing pod: ErrImagePull: {image}: not found")
            self._state = "FAILED"

    def _start(self) -> None:
        self.attempts += 1
        url = self.body["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        command = [sys.executable, "-P", dataflow_engine.__file__, url]
        environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def state(self) -> str:
        """One of Dataflow's; work that was lost is begun again."""
        if not self._state and (status := self._process.poll()) is not None:
            if status == 0:
                self._state = "DONE"
            elif "JobError" in self.error and self.attempts < ATTEMPTS:
                self._start()
            else:
                self._state = "FAILED"
        return f"JOB_STATE_{self._state or 'RUNNING'}"

    @property
    def error(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The pids of its worker processes; none where it has ended."""
        if self._process.poll() is not None:
            return []
        found = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def cancel(self) -> None:
        if self.state == "JOB_STATE_RUNNING":
            self._state = "CANCELLED"
            self.end()

    def end(self) -> None:
        """Ends its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class ExecutingDataflow(cloud_doubles.Dataflow):
    """Dataflow's REST service, whose workers are processes of this machine.

    Attributes:
      images: the container images that its workers can pull.
      jobs: by id, in the order of their creation.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.images = {cloud_doubles.IMAGE}
        self.jobs: dict[str, Job] = {}
        self._folder, self._guard = folder, threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> dict:
        with self._guard:  # each request is answered by a thread of its own
            return self._answer(method, path, body)

    def _answer(self, method: str, path: str, body: bytes) -> dict:
        if method == "POST":
            number = f"2026-01-01_00_00_00-{len(self.jobs) + 1}"
            self.jobs[number] = Job(number, json.loads(body), self._folder, self.images)
            return {**json.loads(body), "id": number}
        found = re.search(r"/jobs(?:/([^/]+))?(/messages)?$", path)
        if not found[1]:
            active = [job for job in self.jobs.values() if job.state == "JOB_STATE_RUNNING"]
            return {"jobs": [{"id": job.id, "name": job.body["name"]} for job in active]}
        job = self.jobs[found[1]]
        if method == "PUT":
            assert json.loads(body)["requestedState"] == "JOB_STATE_CANCELLED"
            job.cancel()
        if found[2]:
            return {"jobMessages": [{"messageText": job.error, "id": "1"}]}
        return {"id": job.id, "currentState": job.state}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ExecutingDataflow]:
    """A Dataflow at work; the output of its workers is in `folder`."""
    with ExecutingDataflow(folder) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
            for job in service.jobs.values():
                job.end()

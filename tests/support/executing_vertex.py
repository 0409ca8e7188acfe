"""A stand-in for Vertex AI that does the work: the containers' commands, as processes here.

Each worker gets the variables that Vertex AI gives, see "Cluster variables" in its page on
distributed training. What it does when a machine is lost was never seen: `restarts` has both ways.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cloud_doubles
import jobs
from google.cloud import aiplatform_v1

TASKS = ("chief", "worker")  # of TF_CONFIG, by worker pool


class Job:
    """A CustomJob and the processes of its workers.

    Attributes:
      request: what created it.
      attempts: how often all workers were started.
    """

    def __init__(self, name: str, request, folder: Path, images: set[str], restarts: bool):
        self.name, self.request, self.attempts = name, request, 0
        self._folder, self._restarts = folder, restarts
        self._state, self._error, self._preempted = "", "", False
        self.workers: list[subprocess.Popen] = []
        self._pools = request.custom_job.job_spec.worker_pool_specs
        wanted = {pool.container_spec.image_uri for pool in self._pools}
        if missing := wanted - images:
            self._fail(f"Image '{missing.pop()}' not found.")
        else:
            self._start()

    def _start(self) -> None:
        self.attempts += 1
        counts = [pool.replica_count for pool in self._pools]
        ports = iter(jobs.free_ports(sum(counts)))
        places = [[f"127.0.0.1:{next(ports)}" for _ in range(count)] for count in counts]
        cluster = dict(zip(TASKS, places, strict=False))
        pools = {f"workerpool{i}": hosts for i, hosts in enumerate(places)}
        self.workers = []
        for number, pool in enumerate(self._pools):
            command = [*pool.container_spec.command, *pool.container_spec.args]
            assert command[0] == "kmeans-job", command
            for index in range(pool.replica_count):
                task = {"type": TASKS[number], "index": index}
                tf_config = {"cluster": cluster, "task": task, "environment": "cloud"}
                spec = {"cluster": pools, "environment": "cloud"}
                spec["task"] = {"type": f"workerpool{number}", "index": index}
                self.workers.append(self._worker(command[1:], tf_config, spec))

    def _worker(self, arguments: list[str], tf_config: dict, spec: dict) -> subprocess.Popen:
        environment = {
            **os.environ,
            "PYTHONPATH": str(jobs.ROOT),
            "TF_CONFIG": json.dumps(tf_config),
            "CLUSTER_SPEC": json.dumps(spec),
            "CLOUD_ML_PROJECT_ID": "123456789",
        }
        command = [sys.executable, "-P", "-m", "job", *arguments]
        with self.log(len(self.workers)).open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def log(self, worker: int) -> Path:
        """What a worker printed since it was last started."""
        number = self.name.rsplit("/", 1)[-1]
        return self._folder / f"{number}.{worker}.{self.attempts}.log"

    def _fail_of(self, worker: int) -> None:
        status = self.workers[worker].returncode
        self._fail(f"Replica {worker} exited with a non-zero status of {status}.")

    def _fail(self, text: str) -> None:
        self._state, self._error = "FAILED", text
        self.end()

    def advance(self) -> str:
        """Does what has become necessary since the last call; returns the state."""
        if self._state:
            return self._state
        statuses = [worker.poll() for worker in self.workers]
        if self._preempted:
            self._preempted = False
            self.end()
            self._start()
        elif bad := [n for n, status in enumerate(statuses) if status]:
            self._fail_of(bad[0])
        elif statuses[0] == 0:  # the job is done when its chief is
            self._state = "SUCCEEDED"
            self.end()
        return self._state or "RUNNING"

    def preempt(self, worker: int) -> None:
        """Takes the machine of a worker away."""
        self.workers[worker].send_signal(signal.SIGKILL)
        self.workers[worker].wait()
        if self._restarts:
            self._preempted = True
        else:  # at once: the others end soon after it, since they miss it
            self._fail_of(worker)

    def cancel(self) -> None:
        if self.advance() == "RUNNING":
            self._state = "CANCELLED"
            self.end()

    def end(self) -> None:
        """Ends its processes, as containers are ended."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        jobs.wait(*self.workers)

    def message(self) -> aiplatform_v1.CustomJob:
        return aiplatform_v1.CustomJob(
            name=self.name,
            display_name=self.request.custom_job.display_name,
            state=f"JOB_STATE_{self.advance()}",
            error={"message": self._error},
        )


class ExecutingCustomJobs:
    """Vertex AI's JobServiceClient, whose machines are processes.

    Attributes:
      images: the container images that machines can pull.
      restarts: whether all workers are started anew when one machine is taken away, before the
        service looks at how the others ended.
      jobs: by name, in the order of their creation.
    """

    def __init__(self, folder: Path):
        self.images, self.restarts = {cloud_doubles.IMAGE}, True
        self.jobs: dict[str, Job] = {}
        self._folder = folder

    def create_custom_job(self, request) -> aiplatform_v1.CustomJob:
        name = f"{request.parent}/customJobs/{len(self.jobs) + 1}"
        self.jobs[name] = Job(name, request, self._folder, self.images, self.restarts)
        return self.jobs[name].message()

    def get_custom_job(self, *, name: str, retry) -> aiplatform_v1.CustomJob:
        return self.jobs[name].message()

    def list_custom_jobs(self, request) -> list[aiplatform_v1.CustomJob]:
        found = [job.message() for job in self.jobs.values()]
        return [job for job in found if request.filter == f'display_name="{job.display_name}"']

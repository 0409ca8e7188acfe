"""Stand-ins for services of Google Cloud: a Dataflow on loopback, a Vertex AI in memory."""

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.cloud import dataflow as dataflow_api

from job.cloud.config import CloudConfig
from job.cloud.services import Clients

PROJECT, REGION, BUCKET = "my-project", "us-central1", "bucket"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT}/kmeans-job/kmeans-job@sha256:{'0123456789abcdef' * 4}"
CREATED = "2026-01-01_00_00_00-1234567890"  # the Dataflow job
NUMBER = "4711"  # of the CustomJob

OUTPUT = f"gs://{BUCKET}/out"
NEEDED = {
    "--project": PROJECT,
    "--region": REGION,
    "--input": "gs://somewhere/images.npz",
    "--output": OUTPUT,
    "--image": IMAGE,
    "--k": "10",
}


def submit_command(*flags: str, **values: str | None) -> list[str]:
    """`submit` with what it needs; `values` are other values of these flags, None for no flag."""
    given = NEEDED | {f"--{name}": value for name, value in values.items()}
    pairs = [part for name, value in given.items() if value is not None for part in (name, value)]
    return ["submit", *pairs, *flags]


def config(**values) -> CloudConfig:
    """A job of PROJECT, with other `values` where they are given."""
    known = {"project": PROJECT, "region": REGION, "output": f"gs://{BUCKET}/out", "image": IMAGE}
    return CloudConfig(**{**known, **values})


class Dataflow(http.server.ThreadingHTTPServer):
    """Takes jobs as Dataflow's REST service does.

    Attributes:
      received: requests that create a job: path, JSON.
      states: what the next questions for the job's state are answered with; the last one stays.
      messages: texts of the job's errors.
      active: names of jobs that are at work.
      refusal: (HTTP status, text) that answers every request, or None.
    """

    def __init__(self):
        super().__init__(("localhost", 0), _Handler)
        self.received: list[tuple[str, dict]] = []
        self.states = ["JOB_STATE_DONE"]
        self.messages: list[str] = []
        self.active: list[str] = []
        self.refusal: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    @property
    def beam_flags(self) -> list[str]:
        """What leads Beam here."""
        return [f"--dataflow_endpoint={self.url}", "--no_auth"]

    @property
    def job(self) -> dict:
        """The only job that was created."""
        ((_, job),) = self.received
        return job

    def answer(self, method: str, path: str, body: bytes) -> dict:
        if method == "POST":
            self.received.append((path, json.loads(body)))
            return {**self.received[-1][1], "id": CREATED}
        if path.endswith("/messages"):
            levels = [{"messageText": text, "id": text[:9]} for text in self.messages]
            return {"jobMessages": levels}
        if path.endswith(CREATED):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return {"id": CREATED, "currentState": state}
        assert re.search("/jobs$", path), path
        return {"jobs": [{"id": f"id-{name}", "name": name} for name in self.active]}


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer("GET", b"")

    def do_POST(self):
        self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self):
        self._answer("PUT", self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, method: str, body: bytes) -> None:
        service: Dataflow = self.server  # type: ignore[assignment]
        status, content = 200, {}
        if service.refusal:
            status, text = service.refusal
            content = {"error": {"code": status, "message": text}}
        else:
            content = service.answer(method, self.path.split("?")[0], body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args) -> None: ...


@contextlib.contextmanager
def dataflow() -> Iterator[Dataflow]:
    """A Dataflow at work."""
    with Dataflow() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


class CustomJobs:
    """Takes CustomJobs as Vertex AI's JobServiceClient does.

    Attributes:
      received: requests that create a job.
      states: what the next questions for the job's state are answered with; the last one stays.
      active: jobs that are there by now, as CustomJob.
    """

    def __init__(self):
        self.received: list[aiplatform_v1.CreateCustomJobRequest] = []
        self.states = ["JOB_STATE_SUCCEEDED"]
        self.active: list[aiplatform_v1.CustomJob] = []

    @property
    def arguments(self) -> list[str]:
        """Those of the chief of the only job that was created."""
        (request,) = self.received
        return list(request.custom_job.job_spec.worker_pool_specs[0].container_spec.args)

    def create_custom_job(self, request) -> aiplatform_v1.CustomJob:
        self.received.append(request)
        return aiplatform_v1.CustomJob(name=f"{request.parent}/customJobs/{NUMBER}")

    def get_custom_job(self, *, name: str, retry) -> aiplatform_v1.CustomJob:
        assert name.endswith(f"/customJobs/{NUMBER}")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return aiplatform_v1.CustomJob(name=name, state=state)

    def list_custom_jobs(self, request) -> list[aiplatform_v1.CustomJob]:
        return [
            job for job in self.active if request.filter == f'display_name="{job.display_name}"'
        ]


def clients(service: Dataflow, custom_jobs: CustomJobs) -> Clients:
    """What `submit` talks to instead of Google Cloud."""
    there: dict[str, Any] = {
        "credentials": AnonymousCredentials(),
        "client_options": {"api_endpoint": service.url},
        "transport": "rest",
    }
    jobs, messages = dataflow_api.JobsV1Beta3Client, dataflow_api.MessagesV1Beta3Client
    return Clients(jobs(**there), messages(**there), custom_jobs)

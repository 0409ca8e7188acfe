"""Dataflow and Vertex AI as `submit` talks to them: jobs, their states and errors, refusals."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from job.cloud import dataflow as cloud
from job.cloud.dataflow import CloudConfig
from pipeline.errors import JobError, UserError
from pipeline.storage.gcs_client import LOGIN

PATIENCE_SECONDS = 600.0  # with a service that fails to answer for now
CONSOLE = "https://console.cloud.google.com"
SUCCESS = ("done", "succeeded")
ENDED = (*SUCCESS, "failed", "cancelled", "expired", "partially_succeeded", "updated", "drained")


class Clients(NamedTuple):
    """Of the services, which tests replace.

    Attributes:
      jobs, messages: Dataflow's JobsV1Beta3Client and MessagesV1Beta3Client.
      custom_jobs: Vertex AI's JobServiceClient.
    """

    jobs: Any
    messages: Any
    custom_jobs: Any


def connect(config: CloudConfig) -> Clients:
    """Clients with the credentials of this machine.

    Raises:
      UserError: it has none, or a package is missing.
    """
    types, dataflow = cloud.vertex_types(), cloud.dataflow_types()
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    # It asks a server that only Google's machines have: once, briefly.
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    try:
        credentials, _ = google.auth.default(
            scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
    except GoogleAuthError as error:
        raise UserError(
            f"submit: no Google Cloud credentials on this machine; run `{LOGIN}`"
        ) from error
    return Clients(
        dataflow.JobsV1Beta3Client(credentials=credentials),
        dataflow.MessagesV1Beta3Client(credentials=credentials),
        types.JobServiceClient(
            credentials=credentials,
            client_options={"api_endpoint": f"{config.region}-aiplatform.googleapis.com"},
        ),
    )


class Started(NamedTuple):
    """A job that a service has accepted.

    Attributes:
      title: what messages call it.
      link, logs: pages of the console.
      follow, cancel: commands.
    """

    title: str
    link: str
    logs: str
    follow: str
    cancel: str


def dataflow_job(config: CloudConfig, job_id: str) -> Started:
    """The Dataflow job of this id."""
    where = f"--project {config.project} --region {config.region}"
    page = f"{CONSOLE}/dataflow/jobs/{config.region}/{job_id}"
    return Started(
        f"Dataflow job {job_id}",
        f"{page}?project={config.project}",
        f"{page};logsSeverity=INFO?project={config.project}",
        f"gcloud dataflow jobs describe {job_id} {where}",
        f"gcloud dataflow jobs cancel {job_id} {where}",
    )


def custom_job(config: CloudConfig, name: str) -> Started:
    """The Vertex AI CustomJob of this resource name."""
    number = name.rsplit("/", 1)[-1]
    where = f"--project {config.project} --region {config.region}"
    query = f"resource.labels.job_id%3D%22{number}%22"
    return Started(
        f"Vertex AI job {number}",
        f"{CONSOLE}/vertex-ai/locations/{config.region}/training/{number}?project={config.project}",
        f"{CONSOLE}/logs/query;query={query}?project={config.project}",
        f"gcloud ai custom-jobs stream-logs {number} {where}",
        f"gcloud ai custom-jobs cancel {number} {where}",
    )


def running_jobs(config: CloudConfig, clients: Clients) -> list[Started]:
    """The jobs that are at work on the output."""
    types, dataflow = cloud.vertex_types(), cloud.dataflow_types()
    listed = clients.jobs.list_jobs(
        dataflow.ListJobsRequest(
            project_id=config.project,
            location=config.region,
            filter=dataflow.ListJobsRequest.Filter.ACTIVE,
        )
    )
    running = [dataflow_job(config, job.id) for job in listed if job.name == config.name]
    found = clients.custom_jobs.list_custom_jobs(
        types.ListCustomJobsRequest(
            parent=f"projects/{config.project}/locations/{config.region}",
            filter=f'display_name="{config.name}"',
        )
    )
    return running + [
        custom_job(config, job.name) for job in found if _state(job.state) not in ENDED
    ]


def dataflow_state(config: CloudConfig, clients: Clients, job_id: str) -> str:
    """The state of a Dataflow job, e.g. `running`."""
    request = cloud.dataflow_types().GetJobRequest(
        project_id=config.project, location=config.region, job_id=job_id
    )
    return _state(clients.jobs.get_job(request, retry=_patiently()).current_state)


def dataflow_errors(config: CloudConfig, clients: Clients, job_id: str) -> list[str]:
    """What a Dataflow job says of its errors."""
    dataflow = cloud.dataflow_types()
    request = dataflow.ListJobMessagesRequest(
        project_id=config.project,
        location=config.region,
        job_id=job_id,
        minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_ERROR,
    )
    return [message.message_text for message in clients.messages.list_job_messages(request)]


def custom_job_state(clients: Clients, name: str) -> str:
    """The state of a CustomJob, e.g. `running`."""
    return _state(clients.custom_jobs.get_custom_job(name=name, retry=_patiently()).state)


def _state(state: Any) -> str:
    return state.name.removeprefix("JOB_STATE_").lower()


def _patiently() -> Any:
    """Asks again where an answer may come later."""
    from google.api_core.retry import Retry

    return Retry(timeout=PATIENCE_SECONDS)


@contextlib.contextmanager
def refusals(where: str) -> Iterator[None]:
    """What a service refuses for good is the user's to mend: one line."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except exceptions.ClientError as error:
        text = " ".join(error.message.split())[:400]
        raise UserError(f"{where}: refused ({error.code}): {text}") from error
    except GoogleAuthError as error:
        text = " ".join(str(error).split())[:400]
        raise UserError(f"{where}: {text}; run `{LOGIN}`") from error
    except exceptions.ServerError as error:
        raise JobError(f"{where}: fails for now ({error.message}); run it again") from error

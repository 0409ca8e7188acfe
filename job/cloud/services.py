"""What Dataflow and Vertex AI have in common: clients, states of jobs, errors."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import JobError, UserError
from pipeline.storage.gcs_client import LOGIN

if TYPE_CHECKING:
    from job.cloud.config import CloudConfig

RETRY_SECONDS = 600.0  # how long a service that fails for now is asked again
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


def vertex_types() -> Any:
    """The module of Vertex AI's types and clients.

    Raises:
      UserError: it is not installed.
    """
    try:
        from google.cloud import aiplatform_v1
    except ImportError as error:
        raise UserError(
            "submit: google-cloud-aiplatform is not installed; pip install 'kmeans-job[gcp]'"
        ) from error
    return aiplatform_v1


def dataflow_types() -> Any:
    """The module of Dataflow's types and clients.

    Raises:
      UserError: Beam was installed without it.
    """
    try:
        from google.cloud import dataflow
    except ImportError as error:
        raise UserError(
            "submit: apache-beam[gcp] is not installed; pip install 'kmeans-job[gcp]'"
        ) from error
    return dataflow


def connect(config: "CloudConfig") -> Clients:
    """Clients with the credentials of this machine.

    Raises:
      UserError: it has none, or a package is missing.
    """
    types, dataflow = vertex_types(), dataflow_types()
    import google.auth
    from google.auth.exceptions import GoogleAuthError

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


def state_name(state: Any) -> str:
    return state.name.removeprefix("JOB_STATE_").lower()


def retry_policy() -> Any:
    """Retries requests whose failure may pass."""
    from google.api_core.retry import Retry

    return Retry(timeout=RETRY_SECONDS)


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Translates errors of a service raised inside the block into one line about `where`."""
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

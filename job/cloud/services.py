"""What Dataflow and Vertex AI have in common: clients, descriptions and states of jobs, errors."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.errors import JobError, UserError, install_hint
from pipeline.storage.gcs_client import LOGIN

RETRY_SECONDS = 600.0  # how long a request is retried while it fails with a transient error
CONSOLE = "https://console.cloud.google.com"
SUCCESS = ("done", "succeeded")
ENDED = (*SUCCESS, "failed", "cancelled", "expired", "partially_succeeded", "updated", "drained")


class Clients(NamedTuple):
    """The clients of the services; tests give others.

    Attributes:
      jobs: Dataflow's JobsV1Beta3Client.
      messages: Dataflow's MessagesV1Beta3Client.
      custom_jobs: Vertex AI's JobServiceClient.
    """

    jobs: Any
    messages: Any
    custom_jobs: Any


def vertex_types() -> Any:
    """Imports the module of Vertex AI's types and clients.

    Raises:
      UserError: it is not installed.
    """
    try:
        from google.cloud import aiplatform_v1
    except ImportError as error:
        raise UserError(
            f"submit: google-cloud-aiplatform is not installed; {install_hint('gcp')}"
        ) from error
    return aiplatform_v1


def dataflow_types() -> Any:
    """Imports the module of Dataflow's types and clients.

    Raises:
      UserError: Beam was installed without it.
    """
    try:
        from google.cloud import dataflow
    except ImportError as error:
        raise UserError(
            f"submit: apache-beam[gcp] is not installed; {install_hint('gcp')}"
        ) from error
    return dataflow


def make_clients(region: str) -> Clients:
    """Makes clients with the credentials of this machine; `region` is Vertex AI's.

    Raises:
      UserError: there are no credentials, or a package is not installed.
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
            client_options={"api_endpoint": f"{region}-aiplatform.googleapis.com"},
        ),
    )


class CloudJob(NamedTuple):
    """A job that a service has accepted, and how a person finds it.

    Attributes:
      title: its name in messages.
      link: the job's page in the console.
      logs: the page of its logs.
      follow: a command that shows how it goes.
      cancel: a command that cancels it.
    """

    title: str
    link: str
    logs: str
    follow: str
    cancel: str


def state_name(state: Any) -> str:
    """Returns the name of a service's enum of states: `running` for JOB_STATE_RUNNING."""
    return state.name.removeprefix("JOB_STATE_").lower()


def as_json(message: Any) -> dict[str, Any]:
    """Converts a message to the JSON of REST services: enums by name, unset fields left out."""
    return type(message).to_dict(
        message,
        use_integers_for_enums=False,
        preserving_proto_field_name=False,
        always_print_fields_with_no_presence=False,
    )


def retry_policy() -> Any:
    """Makes the retry policy for requests that fail with a transient error."""
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
        raise JobError(
            f"{where}: fails for now ({error.message}); run the same command again"
        ) from error

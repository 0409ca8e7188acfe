"""Dataflow: requests a sharding job, and follows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from job.cloud.config import CloudConfig
from job.cloud.services import (
    CONSOLE,
    Clients,
    CloudJob,
    dataflow_types,
    retry_policy,
    state_name,
)
from pipeline.errors import UserError
from pipeline.transforms.dataflow import dataflow_job

TEMPORARY = "kmeans-job-tmp"  # folder in the bucket for what Dataflow stages
# The flags of Beam on the command line override them.
DATAFLOW_DEFAULTS = {"worker_machine_type": "e2-standard-2", "max_num_workers": "8"}


def beam_flags_of(config: CloudConfig, beam_flags: Sequence[str] = ()) -> list[str]:
    """Returns the flags of Beam that run a pipeline on Dataflow as the config says.

    Args:
      beam_flags: flags of the user, which override DATAFLOW_DEFAULTS and add to them.

    Raises:
      UserError: one of `beam_flags` contradicts the config.
    """
    bucket = config.output.split("/")[2]
    fixed = {
        "runner": "DataflowRunner",
        "project": config.project,
        "region": config.region,
        "job_name": config.name,
        "sdk_container_image": config.image,
        # The image holds Beam and this package, so a worker installs nothing when it starts.
        "sdk_location": "container",
        "service_account_email": config.service_account,
    }
    for flag in beam_flags:
        if flag.removeprefix("--").split("=")[0] in fixed:
            raise UserError(f"{flag}: submit sets it itself; see: kmeans-job submit --help")
    defaults = {
        "temp_location": f"gs://{bucket}/{TEMPORARY}",
        # Without it Beam uploads a list of the packages installed here and where they came from.
        "experiments": "disable_logging_submission_environment",
        **DATAFLOW_DEFAULTS,
    }
    return [*_flags(defaults), *beam_flags, *_flags(fixed)]


def _flags(values: Mapping[str, str | None]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def create_request(flags: list[str]) -> Any:
    """Makes the dataflow.CreateJobRequest, without the graph and the place where it is staged."""
    dataflow = dataflow_types()
    described = dataflow_job(flags)
    return dataflow.CreateJobRequest(
        project_id=described.project,
        location=described.region,
        job=dataflow.Job(
            name=described.name,
            type_=dataflow.JobType.JOB_TYPE_BATCH,
            environment=described.environment,
        ),
    )


def job_of(config: CloudConfig, job_id: str) -> CloudJob:
    """Describes the Dataflow job of this id."""
    where = f"--project {config.project} --region {config.region}"
    page = f"{CONSOLE}/dataflow/jobs/{config.region}/{job_id}"
    return CloudJob(
        f"Dataflow job {job_id}",
        f"{page}?project={config.project}",
        f"{page};logsSeverity=INFO?project={config.project}",
        f"gcloud dataflow jobs describe {job_id} {where}",
        f"gcloud dataflow jobs cancel {job_id} {where}",
    )


def active_jobs(config: CloudConfig, clients: Clients) -> list[CloudJob]:
    """Lists the Dataflow jobs that write to the output and have not ended."""
    types = dataflow_types()
    listed = clients.jobs.list_jobs(
        types.ListJobsRequest(
            project_id=config.project,
            location=config.region,
            filter=types.ListJobsRequest.Filter.ACTIVE,
        )
    )
    return [job_of(config, job.id) for job in listed if job.name == config.name]


def job_state(config: CloudConfig, clients: Clients, job_id: str) -> str:
    """Returns the state of a Dataflow job, e.g. `running`."""
    request = dataflow_types().GetJobRequest(
        project_id=config.project, location=config.region, job_id=job_id
    )
    return state_name(clients.jobs.get_job(request, retry=retry_policy()).current_state)


def error_messages(config: CloudConfig, clients: Clients, job_id: str) -> list[str]:
    """Returns the messages of a Dataflow job that report errors."""
    dataflow = dataflow_types()
    request = dataflow.ListJobMessagesRequest(
        project_id=config.project,
        location=config.region,
        job_id=job_id,
        minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_ERROR,
    )
    return [message.message_text for message in clients.messages.list_job_messages(request)]

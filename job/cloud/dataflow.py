"""Dataflow: the flags and the request of a sharding job, and what becomes of the job."""

from collections.abc import Mapping, Sequence
from typing import Any

from job.cloud.config import CloudConfig
from job.cloud.services import (
    CONSOLE,
    Clients,
    Started,
    dataflow_types,
    retry_policy,
    state_name,
)
from job.cloud.vertex import as_json
from pipeline.errors import UserError

TEMPORARY = "kmeans-job-tmp"  # what Dataflow stages, beside the outputs of a bucket
# Overridden by the Beam flags of the command line.
DATAFLOW_DEFAULTS = {"worker_machine_type": "e2-standard-2", "max_num_workers": "8"}


def beam_flags_of(config: CloudConfig, beam_flags: Sequence[str] = ()) -> list[str]:
    """Flags of Beam that run a pipeline on Dataflow, in the image and as the config says.

    Args:
      beam_flags: the user's, which may override DATAFLOW_DEFAULTS and add to them.

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
        # The image has Beam and this package: nothing is installed when a worker starts.
        "sdk_location": "container",
        "service_account_email": config.service_account,
    }
    for flag in beam_flags:
        if flag.removeprefix("--").split("=")[0] in fixed:
            raise UserError(f"{flag}: submit sets it itself; see: kmeans-job submit --help")
    defaults = {
        "temp_location": f"gs://{bucket}/{TEMPORARY}",
        # Beam would upload a list of what is installed here, with the addresses it came from.
        "experiments": "disable_logging_submission_environment",
        **DATAFLOW_DEFAULTS,
    }
    return [*_flags(defaults), *beam_flags, *_flags(fixed)]


def temporary_folder(flags: list[str]) -> str:
    """Where Dataflow stages and keeps what it needs for a while, by its flags."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

    return PipelineOptions(flags).view_as(GoogleCloudOptions).temp_location


def _flags(values: Mapping[str, str | None]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def request(flags: list[str]) -> dict[str, Any]:
    """The CreateJobRequest for Dataflow as JSON, but for the graph and where it is staged."""
    dataflow = dataflow_types()
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
    from apache_beam.runners.dataflow.internal import apiclient

    options = PipelineOptions(flags)
    cloud = options.view_as(GoogleCloudOptions)
    environment = apiclient.Environment([], options, "8", f"{cloud.temp_location}/pipeline.pb")
    request = dataflow.CreateJobRequest(
        project_id=cloud.project,
        location=cloud.region,
        job=dataflow.Job(
            name=cloud.job_name,
            type_=dataflow.JobType.JOB_TYPE_BATCH,
            environment=environment.proto,
        ),
    )
    return as_json(request)


def started(config: CloudConfig, job_id: str) -> Started:
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


def running(config: CloudConfig, clients: Clients) -> list[Started]:
    """The Dataflow jobs at work on the output."""
    types = dataflow_types()
    listed = clients.jobs.list_jobs(
        types.ListJobsRequest(
            project_id=config.project,
            location=config.region,
            filter=types.ListJobsRequest.Filter.ACTIVE,
        )
    )
    return [started(config, job.id) for job in listed if job.name == config.name]


def state(config: CloudConfig, clients: Clients, job_id: str) -> str:
    """The state of a Dataflow job, e.g. `running`."""
    request = dataflow_types().GetJobRequest(
        project_id=config.project, location=config.region, job_id=job_id
    )
    return state_name(clients.jobs.get_job(request, retry=retry_policy()).current_state)


def errors(config: CloudConfig, clients: Clients, job_id: str) -> list[str]:
    """What a Dataflow job says of its errors."""
    dataflow = dataflow_types()
    request = dataflow.ListJobMessagesRequest(
        project_id=config.project,
        location=config.region,
        job_id=job_id,
        minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_ERROR,
    )
    return [message.message_text for message in clients.messages.list_job_messages(request)]

"""Vertex AI: requests a fit on one machine or several, and follows the job."""

from collections.abc import Sequence
from typing import Any

from job.cloud.config import CloudConfig
from job.cloud.services import (
    CONSOLE,
    ENDED,
    Clients,
    CloudJob,
    retry_policy,
    state_name,
    vertex_types,
)
from pipeline.terminal import PROGRAM


def create_request(config: CloudConfig, arguments: Sequence[str]) -> Any:
    """Makes the aiplatform_v1.CreateCustomJobRequest that runs kmeans-job with `arguments`.

    Pool 0 is the chief; pool 1 has the other workers, if there are any.
    """
    types = vertex_types()
    scheduling = types.Scheduling(
        timeout={"seconds": round(3600 * config.timeout_hours)},
        # When one worker is lost, the others end. All start again and resume from the checkpoint.
        restart_job_on_worker_restart=True,
        strategy=types.Scheduling.Strategy["SPOT" if config.spot else "STANDARD"],
    )
    counts = [1, config.workers - 1] if config.workers > 1 else [1]
    return types.CreateCustomJobRequest(
        parent=f"projects/{config.project}/locations/{config.region}",
        custom_job=types.CustomJob(
            display_name=config.name,
            job_spec=types.CustomJobSpec(
                worker_pool_specs=[_pool(types, config, arguments, count) for count in counts],
                scheduling=scheduling,
                service_account=config.service_account or "",
            ),
        ),
    )


def _pool(types: Any, config: CloudConfig, arguments: Sequence[str], count: int) -> Any:
    """Makes the aiplatform_v1.WorkerPoolSpec of `count` equal workers."""
    machine = types.MachineSpec(machine_type=config.machine)
    if config.accelerator is not None:
        machine.accelerator_type = types.AcceleratorType[config.accelerator.kind]
        machine.accelerator_count = config.accelerator.number
    return types.WorkerPoolSpec(
        machine_spec=machine,
        replica_count=count,
        container_spec=types.ContainerSpec(
            image_uri=config.image, command=[PROGRAM], args=list(arguments)
        ),
    )


def job_of(config: CloudConfig, name: str) -> CloudJob:
    """Describes the CustomJob of the resource name `name`."""
    number = name.rsplit("/", 1)[-1]
    where = f"--project {config.project} --region {config.region}"
    query = f"resource.labels.job_id%3D%22{number}%22"
    return CloudJob(
        f"Vertex AI job {number}",
        f"{CONSOLE}/vertex-ai/locations/{config.region}/training/{number}?project={config.project}",
        f"{CONSOLE}/logs/query;query={query}?project={config.project}",
        f"gcloud ai custom-jobs stream-logs {number} {where}",
        f"gcloud ai custom-jobs cancel {number} {where}",
    )


def active_jobs(config: CloudConfig, clients: Clients) -> list[CloudJob]:
    """Lists the CustomJobs that write to the output and have not ended."""
    found = clients.custom_jobs.list_custom_jobs(
        vertex_types().ListCustomJobsRequest(
            parent=f"projects/{config.project}/locations/{config.region}",
            filter=f'display_name="{config.name}"',
        )
    )
    return [job_of(config, job.name) for job in found if state_name(job.state) not in ENDED]


def job_state(clients: Clients, name: str) -> str:
    """Returns the state of a CustomJob, e.g. `running`."""
    return state_name(clients.custom_jobs.get_custom_job(name=name, retry=retry_policy()).state)


def error_messages(clients: Clients, name: str) -> list[str]:
    """Returns what Vertex AI says of why a CustomJob failed, if anything."""
    job = clients.custom_jobs.get_custom_job(name=name, retry=retry_policy())
    return [job.error.message] if job.error.message else []

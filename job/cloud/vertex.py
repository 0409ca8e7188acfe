"""Vertex AI: the request of a fit on one machine or several, and what becomes of the job."""

from collections.abc import Sequence
from typing import Any

from job.cloud.config import CloudConfig
from job.cloud.services import (
    CONSOLE,
    ENDED,
    Clients,
    Started,
    retry_policy,
    state_name,
    vertex_types,
)
from pipeline.terminal import PROGRAM


def request(config: CloudConfig, arguments: Sequence[str]) -> Any:
    """The aiplatform_v1.CreateCustomJobRequest that runs kmeans-job with `arguments`.

    Pool 0 is the chief, pool 1 the other workers, of which there may be none.
    """
    types = vertex_types()
    scheduling = types.Scheduling(
        timeout={"seconds": round(3600 * config.timeout_hours)},
        # Workers that lost one end; all start again, and go on from the checkpoint.
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


def started(config: CloudConfig, name: str) -> Started:
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


def running(config: CloudConfig, clients: Clients) -> list[Started]:
    """The CustomJobs at work on the output."""
    found = clients.custom_jobs.list_custom_jobs(
        vertex_types().ListCustomJobsRequest(
            parent=f"projects/{config.project}/locations/{config.region}",
            filter=f'display_name="{config.name}"',
        )
    )
    return [started(config, job.name) for job in found if state_name(job.state) not in ENDED]


def state(clients: Clients, name: str) -> str:
    """The state of a CustomJob, e.g. `running`."""
    return state_name(clients.custom_jobs.get_custom_job(name=name, retry=retry_policy()).state)


def as_json(message: Any) -> dict[str, Any]:
    """A message as the REST services write it: enums by name, nothing that is not set."""
    return type(message).to_dict(
        message,
        use_integers_for_enums=False,
        preserving_proto_field_name=False,
        always_print_fields_with_no_presence=False,
    )

"""What Google Cloud is asked to do: flags for Dataflow, a request for Vertex AI. Sends nothing."""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from job.config import SHARDS
from pipeline import storage
from pipeline.errors import UserError
from pipeline.terminal import PROGRAM
from pipeline.transforms.dataflow import dataflow_job

TEMPORARY = "kmeans-job-tmp"  # what Dataflow stages, beside the outputs of a bucket
CPU_MACHINE = "e2-standard-8"
# The smallest machine that Vertex AI offers with so many of these.
GPU_MACHINES = {
    "NVIDIA_TESLA_T4": {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"},
    "NVIDIA_TESLA_V100": {
        1: "n1-standard-8",
        2: "n1-standard-16",
        4: "n1-standard-32",
        8: "n1-standard-64",
    },
    "NVIDIA_L4": {
        1: "g2-standard-8",
        2: "g2-standard-24",
        4: "g2-standard-48",
        8: "g2-standard-96",
    },
    "NVIDIA_TESLA_A100": {
        **{count: f"a2-highgpu-{count}g" for count in (1, 2, 4, 8)},
        16: "a2-megagpu-16g",
    },
    "NVIDIA_A100_80GB": {count: f"a2-ultragpu-{count}g" for count in (1, 2, 4, 8)},
    "NVIDIA_H100_80GB": {count: f"a3-highgpu-{count}g" for count in (1, 2, 4, 8)},
}
# Overridden by the Beam flags of the command line.
DATAFLOW_DEFAULTS = {"worker_machine_type": "e2-standard-2", "max_num_workers": "8"}
SHAPES = {
    "project": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project ID, e.g. my-project-123"),
    "region": (r"[a-z]+(-[a-z]+)+[0-9]+", "a region, e.g. us-central1 (a zone has a letter more)"),
    "output": (r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/.+", "a folder in a bucket: gs://B/DIR"),
    "image": (r"[a-z0-9][\w.:/-]*/[\w./-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", "HOST/PATH:TAG"),
    "service_account": (r"[^@\s]+@[^@\s]+\.[a-z]+", "NAME@PROJECT.iam.gserviceaccount.com"),
}


class Accelerator(NamedTuple):
    """GPUs of one worker: a name of aiplatform_v1.AcceleratorType, and how many."""

    kind: str
    number: int


@dataclasses.dataclass(frozen=True)
class CloudConfig:
    """Where and on what a job runs; the names are those of submit's flags.

    Attributes:
      project, region: of all that is started.
      output: gs:// folder of shards and result.
      image: the container image, which all machines must be able to pull.
      workers: machines of the fit.
      machine_type: of each of them; None: the smallest for the accelerator, or CPU_MACHINE.
      accelerator: of each of them; None: no GPU.
      spot: whether they may be taken away, for a fraction of the price.
      service_account: that machines run as; None: the project's default.
      timeout_hours: after which Vertex AI ends the fit.
    """

    project: str
    region: str
    output: str
    image: str | None = None
    workers: int = 1
    machine_type: str | None = None
    accelerator: Accelerator | None = None
    spot: bool = False
    service_account: str | None = None
    timeout_hours: float = 24.0

    def __post_init__(self):
        if not self.image:
            raise UserError(
                "--image: missing; build one with `gcloud builds submit` (README, In the cloud) "
                "and give its URI"
            )
        for name, (shape, wanted) in SHAPES.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(shape, value):
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {value}: is not {wanted}")
        if self.workers < 1:
            raise UserError(f"--workers {self.workers}: must be at least 1")
        if not self.timeout_hours > 0:
            raise UserError(f"--timeout-hours {self.timeout_hours:g}: must be more than 0")
        _ = self.machine  # refuses what no machine has

    @property
    def name(self) -> str:
        """Of both jobs; the same for the same output, so that they are found again."""
        return f"{PROGRAM}-{hashlib.sha256(self.output.encode()).hexdigest()[:12]}"

    @property
    def shards(self) -> str:
        """Folder of the shards."""
        return storage.join(self.output, SHARDS)

    @property
    def machine(self) -> str:
        """The machine type of each worker of the fit."""
        if self.accelerator is None:
            return self.machine_type or CPU_MACHINE
        kind, count = self.accelerator
        machines = GPU_MACHINES.get(kind)
        if machines is None:
            if self.machine_type is None:
                raise UserError(f"--accelerator {kind}: needs a --machine-type that has it")
            return self.machine_type
        if count not in machines:
            counts = ", ".join(map(str, machines))
            raise UserError(f"--accelerator {kind}:{count}: machines have {counts} of them")
        return self.machine_type or machines[count]


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


def accelerator(text: str | None) -> Accelerator | None:
    """The Accelerator of TYPE:COUNT, or of TYPE, which means one; None where there is no text.

    Raises:
      UserError: Vertex AI knows no such GPU, or the count is not a number.
    """
    if not text:
        return None
    kind, _, count = text.partition(":")
    known = [name for name in vertex_types().AcceleratorType.__members__ if "NVIDIA" in name]
    if kind not in known:
        wanted = kind.upper().replace("-", "_")
        near = [name for name in known if wanted and wanted in name]
        near += difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"--accelerator {text}: {hint}TYPE:COUNT has a TYPE of {', '.join(known)}")
    if not re.fullmatch("[1-9][0-9]?", count or "1"):
        raise UserError(f"--accelerator {text}: COUNT must be a number from 1, e.g. {kind}:1")
    return Accelerator(kind, int(count or 1))


def check_reachable(inputs: Sequence[str], init: str, names: Sequence[str]) -> None:
    """Refuses an input, or a file of centroids, that lies where only this machine sees it.

    Args:
      names: of the sets that need no path.
    """
    paths = [("--input", spec) for spec in inputs if spec not in names]
    if init.endswith(".npy"):
        paths.append(("--init", init))
    for flag, path in paths:
        if not path.startswith("gs://"):
            raise UserError(
                f"{flag} {path}: machines in the cloud cannot read it; copy it there with "
                f"`gcloud storage cp -r {path} gs://…` and give that path"
            )


def dataflow_flags(config: CloudConfig, beam_flags: Sequence[str] = ()) -> list[str]:
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


def _flags(values: Mapping[str, str | None]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def dataflow_request(flags: list[str]) -> dict[str, Any]:
    """The CreateJobRequest for Dataflow as JSON, but for the graph and where it is staged."""
    dataflow = dataflow_types()
    described = dataflow_job(flags)
    request = dataflow.CreateJobRequest(
        project_id=described.project,
        location=described.region,
        job=dataflow.Job(
            name=described.name,
            type_=dataflow.JobType.JOB_TYPE_BATCH,
            environment=described.environment,
        ),
    )
    return as_json(request)


def vertex_request(config: CloudConfig, arguments: Sequence[str]) -> Any:
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


def as_json(message: Any) -> dict[str, Any]:
    """A message as the REST services write it: enums by name, nothing that is not set."""
    return type(message).to_dict(
        message,
        use_integers_for_enums=False,
        preserving_proto_field_name=False,
        always_print_fields_with_no_presence=False,
    )

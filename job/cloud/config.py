"""Where and on what a job runs in Google Cloud: frozen, checked once. Sends nothing."""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from job.cloud.services import vertex_types
from job.config import SHARDS
from pipeline import options, storage
from pipeline.errors import UserError
from pipeline.options import option
from pipeline.terminal import PROGRAM

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
    """What `submit` is asked for beside the options of `shard` and `fit`.

    The fields describe themselves; their names are those of the flags.
    """

    project: str = option(metavar="P", help="ID of the Google Cloud project")
    region: str = option(metavar="R", help="of all machines, e.g. us-central1")
    output: str = option(metavar="gs://B/DIR", help="folder for shards and result")
    image: str | None = option(
        None, metavar="URI", help="container image of this package, which all machines can pull"
    )
    workers: int = option(1, metavar="N", least=1, help="machines of the fit")
    machine_type: str | None = option(
        None,
        metavar="TYPE",
        help=f"of these machines (default: {CPU_MACHINE}, or the smallest with the accelerator)",
    )
    accelerator: Accelerator | None = option(
        None, metavar="TYPE:COUNT", parse=str, help="GPUs of each, e.g. NVIDIA_L4:1"
    )
    spot: bool = option(False, help="cheap machines that may be taken away; the fit resumes")
    service_account: str | None = option(
        None, metavar="EMAIL", help="that all machines run as (default: the project's)"
    )
    timeout_hours: float = option(24.0, metavar="HOURS", help="after which the fit is ended")

    def __post_init__(self) -> None:
        for name in ("machine_type", "service_account"):
            object.__setattr__(self, name, getattr(self, name) or None)  # "" of a build's variable
        object.__setattr__(self, "output", self.output.rstrip("/"))
        if not self.image:
            raise UserError(
                "--image: missing; build one with `gcloud builds submit` (docs/cloud.md) "
                "and give its URI"
            )
        for name, (shape, wanted) in SHAPES.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(shape, value):
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {value}: is not {wanted}")
        options.check(self)
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

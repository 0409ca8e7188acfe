"""The options of a job in Google Cloud: where it runs and on which machines. Sends nothing."""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from job.cloud.services import vertex_types
from job.config import SHARDS
from pipeline import options, storage
from pipeline.errors import UserError
from pipeline.options import CLOUD, option
from pipeline.terminal import PROGRAM

CPU_MACHINE = "e2-standard-8"
# Accelerator → how many → the smallest machine that Vertex AI offers with so many.
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


class Accelerator(NamedTuple):
    """The GPUs of one worker.

    Attributes:
      kind: a name of aiplatform_v1.AcceleratorType.
      number: how many.
    """

    kind: str
    number: int


def _is(pattern: str, wanted: str) -> Callable[[str], None]:
    """Makes a check that a text matches `pattern`; the error says that it is not `wanted`."""

    def check(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"is not {wanted}")

    return check


def _check_positive(value: float) -> None:
    if not value > 0:  # also refuses NaN
        raise ValueError("must be more than 0")


def parse_accelerator(text: str) -> Accelerator | None:
    """Parses TYPE:COUNT, or TYPE, which means one; None for an empty text, as a build may give.

    Raises:
      ValueError: Vertex AI knows no such GPU, or the count is not a number.
      UserError: Vertex AI's client is not installed.
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
        raise ValueError(f"{text}: {hint}TYPE:COUNT has a TYPE of {', '.join(known)}")
    if not re.fullmatch("[1-9][0-9]?", count or "1"):
        raise ValueError(f"{text}: COUNT must be a number from 1, e.g. {kind}:1")
    return Accelerator(kind, int(count or 1))


@dataclasses.dataclass(frozen=True)
class CloudConfig:
    """The options of `submit` beside those of `shard` and `fit`.

    Each field carries its own description; a field and its flag have the same name.
    """

    project: str = option(
        metavar="P",
        check=_is(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project ID, e.g. my-project-123"),
        help="ID of the Google Cloud project",
        group=CLOUD,
    )
    region: str = option(
        metavar="R",
        check=_is(
            r"[a-z]+(-[a-z]+)+[0-9]+", "a region, e.g. us-central1 (a zone has a letter more)"
        ),
        help="region of all machines, e.g. us-central1",
        group=CLOUD,
    )
    output: str = option(
        metavar="gs://B/DIR",
        check=_is(
            r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/.+", "a folder in a bucket: gs://B/DIR"
        ),
        help="folder for the shards, in DIR/shards, and for the result",
    )
    image: str | None = option(
        None,
        metavar="URI",
        check=_is(r"[a-z0-9][\w.:/-]*/[\w./-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", "HOST/PATH:TAG"),
        help="container image of this package, which every machine can pull",
        group=CLOUD,
    )
    workers: int = option(
        1, metavar="N", least=1, help="number of machines of the fit", group=CLOUD
    )
    machine_type: str | None = option(
        None,
        metavar="TYPE",
        help=f"type of these machines (default: {CPU_MACHINE}, or the smallest with the "
        "accelerator)",
        group=CLOUD,
    )
    accelerator: Accelerator | None = option(
        None,
        metavar="TYPE:COUNT",
        parse=parse_accelerator,
        help="GPUs of each of these machines, e.g. NVIDIA_L4:1",
        group=CLOUD,
    )
    spot: bool = option(
        False,
        help="use cheap machines that may be taken away; the fit then resumes on others",
        group=CLOUD,
    )
    service_account: str | None = option(
        None,
        metavar="EMAIL",
        check=_is(r"[^@\s]+@[^@\s]+\.[a-z]+", "NAME@PROJECT.iam.gserviceaccount.com"),
        help="account that all machines run as (default: the project's)",
        group=CLOUD,
    )
    timeout_hours: float = option(
        24.0,
        metavar="HOURS",
        check=_check_positive,
        help="time after which the fit is cancelled",
        group=CLOUD,
    )

    def __post_init__(self) -> None:
        # A build gives an empty text for each of its variables that is not set.
        for name in ("image", "machine_type", "service_account"):
            object.__setattr__(self, name, getattr(self, name) or None)
        object.__setattr__(self, "output", self.output.rstrip("/"))
        if self.image is None:
            raise UserError(
                "--image: missing; build one with `gcloud builds submit` (docs/cloud.md) "
                "and give its URI"
            )
        options.check(self)
        self._check_accelerator()

    def _check_accelerator(self) -> None:
        """Raises UserError if no machine, or no known one, has the accelerator."""
        if self.accelerator is None:
            return
        kind, count = self.accelerator
        machines = GPU_MACHINES.get(kind)
        if machines is None and self.machine_type is None:
            raise UserError(f"--accelerator {kind}: needs a --machine-type that has it")
        if machines is not None and count not in machines:
            counts = ", ".join(map(str, machines))
            raise UserError(f"--accelerator {kind}:{count}: machines have {counts} of them")

    @property
    def name(self) -> str:
        """The name of both jobs: the same for the same output, so that they are found again."""
        return f"{PROGRAM}-{hashlib.sha256(self.output.encode()).hexdigest()[:12]}"

    @property
    def shards(self) -> str:
        """The folder of the shards."""
        return storage.join(self.output, SHARDS)

    @property
    def machine(self) -> str:
        """The machine type of each worker of the fit."""
        if self.machine_type is not None:
            return self.machine_type
        if self.accelerator is None:
            return CPU_MACHINE
        return GPU_MACHINES[self.accelerator.kind][self.accelerator.number]


def check_reachable(inputs: Sequence[str], init: str, names: Sequence[str]) -> None:
    """Raises UserError if an input, or a file of centroids, lies outside Google Cloud Storage.

    Args:
      names: inputs that are names of sets, not paths.
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

"""The workers of an Indexed Job of Kubernetes, by itself or inside a JobSet.

A pod of such a Job knows its index, and its host name ends with it. A headless service gives the
pods names: pod 1 of the Job `fit` with the service `kmeans` is `fit-1.kmeans`. How many there are,
and the service, only the manifest knows, which hands them on; deploy/kubernetes/ shows it.
"""

import socket
from collections.abc import Mapping

from job.distribute.workers import WorkerGroup
from pipeline.errors import UserError

INDEX = "JOB_COMPLETION_INDEX"  # which Kubernetes sets
COUNT, SERVICE, PORT = "KMEANS_JOB_WORKERS", "KMEANS_JOB_SERVICE", "KMEANS_JOB_PORT"
DEFAULT_PORT = "2222"
EXAMPLE = "take it from deploy/kubernetes/"


def is_told(environment: Mapping[str, str]) -> bool:
    """Tells whether the manifest of this pod says how many workers there are."""
    return COUNT in environment


def workers_of(environment: Mapping[str, str]) -> WorkerGroup | None:
    """Reads the workers from a pod's variables; None where there is one.

    Raises:
      UserError: a variable is missing or cannot be understood.
    """
    count, index = _number(environment, COUNT), _number(environment, INDEX)
    if index >= count:
        raise UserError(
            f"{INDEX} {index}: not below {COUNT} {count}; give the Job's completions there"
        )
    if count == 1:
        return None
    service = environment.get(SERVICE)
    if not service:
        raise UserError(f"{SERVICE}: not set, so no pod has a name; {EXAMPLE}")
    host = environment.get("HOSTNAME") or socket.gethostname()
    job, _, number = host.rpartition("-")
    if number != str(index):
        raise UserError(
            f"HOSTNAME {host}: does not end with -{index}, the pod's index; "
            "give the Job completionMode: Indexed and no hostname"
        )
    port = _number({PORT: DEFAULT_PORT, **environment}, PORT)
    return WorkerGroup(
        {"worker": [f"{job}-{n}.{service}:{port}" for n in range(count)]},
        "worker",
        index,
        source=COUNT,
        remedy=f"see why its pod does not run, and that {SERVICE} is the pods' subdomain",
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if not text:
        raise UserError(f"{name}: not set, so this is no pod of an Indexed Job; {EXAMPLE}")
    if not text.isdecimal():
        raise UserError(f"{name} {text}: no number; {EXAMPLE}")
    return int(text)

"""Where this process learns of the other workers: from TF_CONFIG, from Slurm or from Kubernetes.

Everything is read from the environment, without TensorFlow: its resolvers would take seconds to
import, and the command needs to know the workers before.
"""

import contextlib
from collections.abc import Callable, Mapping

from job.distribute import kubernetes, slurm, workers
from job.distribute.workers import WorkerGroup
from pipeline.errors import UserError

Environment = Mapping[str, str]
AUTO = "auto"


def of_tf_config(environment: Environment) -> WorkerGroup | None:
    """Reads the workers from TF_CONFIG, as `workers.parse` does."""
    return workers.parse(environment.get("TF_CONFIG"))


# By the value of `--cluster`, in the order in which auto looks: (whether the environment names a
# cluster in this way, read it).
SOURCES: dict[
    str, tuple[Callable[[Environment], bool], Callable[[Environment], WorkerGroup | None]]
] = {
    "tf-config": (lambda environment: bool(environment.get("TF_CONFIG")), of_tf_config),
    "slurm": (slurm.is_step_of_several, slurm.workers_of),
    "kubernetes": (kubernetes.is_told, kubernetes.workers_of),
}
CLUSTERS = (AUTO, *SOURCES)


def discover(name: str, environment: Environment) -> WorkerGroup | None:
    """Returns the workers that the environment names; None where there is no other worker.

    Args:
      name: one of CLUSTERS; `auto` takes the first source that the environment has.

    Raises:
      UserError: what the environment says cannot be understood, or is missing though `name` asks
        for it.
    """
    if name != AUTO:
        return SOURCES[name][1](environment)
    for is_there, read in SOURCES.values():
        if is_there(environment):
            return read(environment)
    return None


def has_others(environment: Environment) -> bool:
    """Tells whether any source names other workers, whichever `--cluster` has chosen."""
    for _, read in SOURCES.values():
        # What is absent or cannot be understood named no workers, and the command has said so.
        with contextlib.suppress(UserError):
            if read(environment) is not None:
                return True
    return False

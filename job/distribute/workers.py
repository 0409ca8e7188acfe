"""The workers of a job: who they are, and whether they are there.

TF_CONFIG is {"cluster": {"chief": [address], "worker": [address, …]}, "task": {"type", "index"}};
the workers are numbered in that order, and number 0 writes what is written once. What Slurm and
Kubernetes say instead is read in modules of their names.
"""

import contextlib
import dataclasses
import json
import re
import socket
import time
from collections.abc import Callable, Iterator

from pipeline.errors import JobError, UserError

JOBS = ("chief", "worker")
PROBE_SECONDS = 5.0
PAUSE_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class WorkerGroup:
    """Two or more workers, and which of them this process is.

    Attributes:
      jobs: by the name of a job, chief or worker, the addresses host:port of its tasks.
      job, index: which of them this process is.
      source: the variable that names them, for messages.
      remedy: what to do about a worker that is not at its address.
    """

    jobs: dict[str, list[str]]
    job: str
    index: int
    source: str = "TF_CONFIG"
    remedy: str = "start it, or correct the address in TF_CONFIG"

    @property
    def tasks(self) -> list[tuple[str, int]]:
        """(job, index) of every worker, in the order of their numbers."""
        return [(job, i) for job in JOBS for i in range(len(self.jobs.get(job, ())))]

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.tasks)

    @property
    def number(self) -> int:
        """The number of this worker."""
        return self.tasks.index((self.job, self.index))

    def address(self, number: int) -> str:
        """Returns the host:port of a worker."""
        job, index = self.tasks[number]
        return self.jobs[job][index]

    def name(self, number: int) -> str:
        """Returns what messages call a worker."""
        return f"worker {number} ({self.address(number)})"


def parse(text: str | None) -> WorkerGroup | None:
    """Reads the workers from the text of TF_CONFIG; None where there is no other worker.

    Raises:
      UserError: it is not a TF_CONFIG, or names jobs other than chief and worker.
    """
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs = {job: list(addresses) for job, addresses in config.get("cluster", {}).items()}
        if sum(map(len, jobs.values())) <= 1:
            return None
        group = WorkerGroup(jobs, config["task"]["type"], int(config["task"]["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG: cannot be understood ({error!r}): {text[:200]}") from error
    if others := jobs.keys() - set(JOBS):
        raise UserError(f"TF_CONFIG: job {min(others)!r}; only chief and worker are known")
    if (group.job, group.index) not in group.tasks:
        raise UserError(f"TF_CONFIG: task {group.job} {group.index} is not in its cluster")
    return group


def refuse_idle(group: WorkerGroup | None, num_shards: int) -> None:
    """Raises UserError if there are more workers than shards: some would have nothing to do."""
    if group is not None and group.size > num_shards:
        raise UserError(
            f"{group.source}: {group.size} workers, but only {num_shards} shards; use at most "
            f"{num_shards} workers, or shard the set again with --num-shards {group.size}"
        )


def wait_for_peers(
    group: WorkerGroup, timeout_seconds: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Waits until every other worker has listened at its address, and listens meanwhile itself.

    TensorFlow would wait for absent workers for a long time, and not say for which.

    Raises:
      JobError: some did not listen within `timeout_seconds`; they are named.
    """
    absent = [number for number in range(group.size) if number != group.number]
    end = clock() + timeout_seconds
    with _listening(group):
        while True:
            absent = [n for n in absent if not is_listening(group.address(n))]
            if not absent:
                return
            if clock() >= end:
                names = ", ".join(map(group.name, absent))
                raise JobError(
                    f"{names}: not there after {timeout_seconds:g} s (--start-timeout-seconds); "
                    f"{group.remedy}"
                )
            time.sleep(PAUSE_SECONDS)


def is_listening(address: str) -> bool:
    """Tells whether something accepts connections at `address`, host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _listening(group: WorkerGroup) -> Iterator[None]:
    """Accepts connections at the port of this worker during the block.

    Afterwards TensorFlow listens there.

    Raises:
      UserError: the port cannot be used.
    """
    address = group.address(group.number)
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
        except OSError as error:
            raise UserError(
                f"{group.source}: this worker cannot listen at {address} ({error.strerror}); end "
                "what uses the port, or name another"
            ) from error
        listener.listen(socket.SOMAXCONN)
        yield


def lost(group: WorkerGroup, text: str) -> JobError:
    """Makes the error for a collective operation that failed: it names the worker that is gone.

    Args:
      text: TensorFlow's message.
    """
    # A worker that gave up because of another one names that one too, and names it last.
    named = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", text)
    tasks = [(job, int(index)) for job, index in named]
    tasks = [task for task in tasks if task in group.tasks and task != (group.job, group.index)]
    others = [n for n in range(group.size) if n != group.number]
    if tasks:
        number = group.tasks.index(tasks[-1])
    elif "CoordinationService" in text:
        number = 0  # worker 0 runs the service that counts all heartbeats
    else:
        number = next((n for n in others if not is_listening(group.address(n))), others[0])
    return JobError(
        f"{group.name(number)} is gone or stopped, so worker {group.number} ends too; start "
        "all workers again to resume from the last checkpoint"
    )

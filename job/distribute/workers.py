"""The workers of a job, as TF_CONFIG names them: who they are, whether they are there.

TF_CONFIG is {"cluster": {"chief": [address], "worker": [address, …]}, "task": {"type", "index"}};
the workers are numbered in that order, and number 0 writes what is written once.
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
class Cluster:
    """More than one worker, and which of them this process is.

    Attributes:
      jobs: addresses, host:port, of each job.
      job, index: this worker's.
    """

    jobs: dict[str, list[str]]
    job: str
    index: int

    @property
    def tasks(self) -> list[tuple[str, int]]:
        """(job, index) of every worker, by number."""
        return [(job, i) for job in JOBS for i in range(len(self.jobs.get(job, ())))]

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.tasks)

    @property
    def number(self) -> int:
        """This worker's."""
        return self.tasks.index((self.job, self.index))

    def address(self, number: int) -> str:
        job, index = self.tasks[number]
        return self.jobs[job][index]

    def name(self, number: int) -> str:
        """What messages call a worker."""
        return f"worker {number} ({self.address(number)})"


def parse(text: str | None) -> Cluster | None:
    """The cluster in a TF_CONFIG; None where there is no other worker.

    Raises:
      UserError: it is not a TF_CONFIG, or of jobs other than chief and worker.
    """
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs = {job: list(addresses) for job, addresses in config.get("cluster", {}).items()}
        if sum(map(len, jobs.values())) <= 1:
            return None
        cluster = Cluster(jobs, config["task"]["type"], int(config["task"]["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG: cannot be understood ({error!r}): {text[:200]}") from error
    if others := jobs.keys() - set(JOBS):
        raise UserError(f"TF_CONFIG: job {min(others)!r}; only chief and worker are known")
    if (cluster.job, cluster.index) not in cluster.tasks:
        raise UserError(f"TF_CONFIG: task {cluster.job} {cluster.index} is not in its cluster")
    return cluster


def refuse_idle(cluster: Cluster | None, num_shards: int) -> None:
    """Refuses a cluster in which a worker would have no shard."""
    if cluster is not None and cluster.size > num_shards:
        raise UserError(
            f"TF_CONFIG: {cluster.size} workers, but only {num_shards} shards; use at most "
            f"{num_shards} workers, or shard the set again with --num-shards {cluster.size}"
        )


def wait_for_peers(
    cluster: Cluster, timeout_seconds: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Returns when every other worker has been there; meanwhile shows them that this one is.

    Raises:
      JobError: one was not there within `timeout_seconds`; it is named.
    """
    absent = [number for number in range(cluster.size) if number != cluster.number]
    end = clock() + timeout_seconds
    with _listening(cluster.address(cluster.number)):
        while True:
            absent = [n for n in absent if not is_listening(cluster.address(n))]
            if not absent:
                return
            if clock() >= end:
                names = ", ".join(map(cluster.name, absent))
                raise JobError(
                    f"{names}: not there after {timeout_seconds:g} s (--start-timeout-seconds); "
                    "start it, or correct the address in TF_CONFIG"
                )
            time.sleep(PAUSE_SECONDS)


def is_listening(address: str) -> bool:
    """Whether something accepts connections at `address`, host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _listening(address: str) -> Iterator[None]:
    """Accepts connections at the port of `address`, as TensorFlow will when all are there."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
        except OSError as error:
            raise UserError(
                f"TF_CONFIG: this worker cannot listen at {address} ({error.strerror}); end what "
                "uses the port, or name another"
            ) from error
        listener.listen(socket.SOMAXCONN)
        yield


def lost(cluster: Cluster, text: str) -> JobError:
    """The error for a collective that ended with the message `text`: who is gone."""
    # A worker that gave up names the one it gave up for, and that name comes last.
    named = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", text)
    tasks = [(job, int(index)) for job, index in named]
    tasks = [
        task for task in tasks if task in cluster.tasks and task != (cluster.job, cluster.index)
    ]
    others = [n for n in range(cluster.size) if n != cluster.number]
    if tasks:
        number = cluster.tasks.index(tasks[-1])
    elif "CoordinationService" in text:
        number = 0  # it counts everybody's heartbeats
    else:
        number = next((n for n in others if not is_listening(cluster.address(n))), others[0])
    return JobError(
        f"{cluster.name(number)} is gone or stopped, so worker {cluster.number} ends too; start "
        "all workers again to go on from the last checkpoint"
    )

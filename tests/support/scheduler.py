"""A scheduler that starts workers again when they end early, as those of clusters do."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import jobs

FINAL = (0, 2)  # exit statuses after which nothing is started again
PAUSE_SECONDS = 0.02

# The processes that run now → whether to kill them all and leave it at that.
Disturb = Callable[[list[Popen]], bool]


def never(processes: list[Popen]) -> bool:
    """Disturbs nobody."""
    return False


def keep_running(
    start: Callable[[int], Popen], count: int, disturb: Disturb = never, most_starts: int = 10
) -> tuple[list[int], list[int]]:
    """Keeps `count` workers running until each has ended for good.

    Args:
      start: (number of the worker) → its process.
      disturb: called again and again; it may kill some.
      most_starts: of one worker.

    Returns:
      The last exit status of each worker, and how often each was started.
    """
    processes, starts = [start(number) for number in range(count)], [1] * count
    end = time.monotonic() + count * jobs.PATIENCE_SECONDS
    try:
        while time.monotonic() < end and not disturb(processes):
            for number, process in enumerate(processes):
                failed = process.poll() not in (None, *FINAL)
                if failed and starts[number] < most_starts:
                    processes[number], starts[number] = start(number), starts[number] + 1
            if all(process.poll() is not None for process in processes):
                break
            time.sleep(PAUSE_SECONDS)
    finally:
        jobs.end_all(processes)
    return [process.wait() for process in processes], starts


def killing(plan: list[tuple[int, int | None]], progress: Callable[[], int]) -> Disturb:
    """Makes a Disturb that kills workers, one after the other.

    Args:
      plan: (how much more must be done by then, the worker to kill; None: all, for good).
      progress: how much is done.
    """
    left, before = list(plan), progress()

    def disturb(processes: list[Popen]) -> bool:
        nonlocal before
        if not left or progress() < before + left[0][0]:
            return False
        before, (_, victim) = progress(), left.pop(0)
        if victim is not None:
            processes[victim].kill()
        return victim is None

    return disturb


def workers(output: Path, count: int, *options) -> Callable[[int], Popen]:
    """Makes the `start` of `count` workers of `fit` on loopback, at new addresses."""
    addresses = [f"127.0.0.1:{port}" for port in jobs.free_ports(count)]

    def start(number: int) -> Popen:
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        return jobs.start(output, *options, number=number, TF_CONFIG=json.dumps(task))

    return start

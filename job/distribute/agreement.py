"""What workers settle before a fit: that all were given the same, and what worker 0 alone finds."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from job.distribute.replicas import Replicas
from pipeline.errors import JobError, UserError


def check_same(replicas: Replicas, values: Mapping[str, Any]) -> None:
    """Checks that all workers were given the same values.

    Args:
      values: by what a message calls them, e.g. `--seed`; compared by their repr.

    Raises:
      UserError: a worker has another one; it and the first different value are named.
    """
    names = sorted(values)
    digests = [hashlib.sha256(repr(values[name]).encode()).digest()[:8] for name in names]
    given = replicas.all_gather(np.frombuffer(b"".join(digests), np.int64))  # [workers, values]
    for worker, row in enumerate(given):
        if different := np.flatnonzero(row != given[0]).tolist():
            # Once all are here they know it too. If this worker ended before, the others might see
            # only that it is gone.
            with contextlib.suppress(JobError):
                replicas.all_gather(np.zeros(1, np.int64))
            raise UserError(
                f"{replicas.name(worker)} has another value of {names[different[0]]} than "
                f"{replicas.name(0)}; start all workers with the same options and shards"
            )


def made_by_first(replicas: Replicas, make: Callable[[], bytes]) -> bytes:
    """Lets worker 0 `make` some bytes; returns them in all workers.

    Raises:
      UserError: of `make`, in worker 0. The others end with a JobError instead of waiting for it.
    """
    failure, data = None, b""
    if replicas.worker == 0:
        try:
            data = b"+" + make()  # so that no bytes at all can mean that there was an error
        except UserError as error:
            failure = error
    data = replicas.broadcast(data)
    if failure is not None:
        raise failure
    if not data:
        raise JobError(f"{replicas.name(0)} could not start: its message says why")
    return data[1:]

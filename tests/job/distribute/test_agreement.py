"""What workers settle, with other workers that a double plays."""

import numpy as np
import pytest

from job.distribute.agreement import check_same, made_by_first
from job.distribute.replicas import Replicas
from pipeline.errors import JobError, UserError


class Worker:
    """One of two workers; `others` is what the other one would answer in its place.

    Attributes:
      worker: the number of this one.
    """

    def __init__(self, worker: int, others: "Worker | None" = None):
        self.worker, self._others = worker, others
        self.given: list = []

    def name(self, worker: int) -> str:
        return f"worker {worker}"

    def all_gather(self, array: np.ndarray) -> np.ndarray:
        answers = self._others.given[len(self.given) :] if self._others else []
        self.given.append(array)
        pair = [array, answers[0] if answers else array]
        return np.stack(pair if self.worker == 0 else pair[::-1])

    def broadcast(self, data: bytes) -> bytes:
        self.given.append(data)
        return self._others.given[0] if self._others and self.worker else data


VALUES = {"--k": 3, "--seed": 0, "the images": "abc"}


def other_with(values: dict) -> Worker:
    check_same(other := Worker(1), values)
    return other


def test_the_same_values_are_fine():
    check_same(Worker(0, other_with(dict(VALUES))), VALUES)


@pytest.mark.parametrize(("name", "value"), [("--k", 4), ("--seed", "0"), ("the images", "abd")])
def test_the_first_different_value_is_named(name, value):
    with pytest.raises(UserError, match=f"worker 1 has another value of {name} than worker 0"):
        check_same(Worker(0, other_with({**VALUES, name: value})), VALUES)


@pytest.mark.parametrize("gone", [False, True])
def test_a_different_value_is_named_once_all_know_it(gone):
    """A worker that ends first would be all that a slower one sees; one may be gone already."""
    worker, calls = Worker(0, other_with({**VALUES, "--k": 4})), []
    gather = worker.all_gather

    def all_gather(array):
        calls.append(len(array))
        if len(calls) == 2 and gone:
            raise JobError("worker 1 is gone")
        return gather(array)

    worker.all_gather = all_gather
    with pytest.raises(UserError, match="worker 1 has another value of --k"):
        check_same(worker, VALUES)
    assert len(calls) == 2


@pytest.mark.parametrize("data", [b"", b"state", b"+"])
def test_the_bytes_of_the_first_are_everybodys(data):
    first = Worker(0)
    assert made_by_first(first, lambda: data) == data
    assert made_by_first(Worker(1, first), pytest.fail) == data


def test_an_error_of_the_first_ends_all():
    def fail() -> bytes:
        raise UserError("--output out: a file")

    first = Worker(0)
    with pytest.raises(UserError, match="a file"):
        made_by_first(first, fail)
    with pytest.raises(JobError, match="worker 0 could not start: its message says why"):
        made_by_first(Worker(1, first), pytest.fail)


def test_one_worker_agrees_with_itself(cpus):
    from job.distribute.replicas import local_replicas

    replicas: Replicas = local_replicas()
    check_same(replicas, VALUES)
    assert made_by_first(replicas, lambda: b"state") == b"state"

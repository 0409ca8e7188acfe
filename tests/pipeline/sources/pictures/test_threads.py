"""Work on several threads: the results of `map`, its exceptions in its order, few values ahead."""

import itertools
import sys
import threading
import types

import pytest

from pipeline.sources.pictures import threads
from pipeline.sources.pictures.threads import in_order


def one_byte(_: int) -> int:
    return 1


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
def test_results_come_in_order(number, count):
    found = list(in_order(lambda value: value * value, range(count), one_byte, number))
    assert found == [value * value for value in range(count)]


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("bad", [0, 5, 16, 333])
def test_an_exception_comes_after_all_that_was_before_it(number, bad):
    def function(value: int) -> int:
        if value == bad:
            raise LookupError(value)
        return value

    found = []
    with pytest.raises(LookupError):
        found.extend(in_order(function, range(500), one_byte, number))
    assert found == list(range(bad))


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("bad", [0, 5, 16, 333])
def test_so_does_an_exception_of_the_iterator(number, bad):
    def values():
        yield from range(bad)
        raise LookupError("damaged")

    found = []
    with pytest.raises(LookupError, match="damaged"):
        found.extend(in_order(str, values(), one_byte, number))
    assert found == [str(value) for value in range(bad)]


@pytest.mark.parametrize(
    ("size", "most"),
    [
        (1, (3 * 2 + 1) * 16),  # batches of 16, three for each thread
        (threads.BATCH_BYTES, 3 * 2 + 1),
        (threads.AHEAD_BYTES // 2, 2 + 1),
        (threads.AHEAD_BYTES * 2, 1 + 1),
    ],
)
def test_few_values_are_read_ahead(size, most):
    taken = itertools.count()
    values = (next(taken) for _ in range(300))
    for done, _ in enumerate(in_order(str, values, lambda _: size, 2), 1):
        assert next(taken) - done - (done - 1) <= most  # each look counts one itself


def test_several_threads_work_at_a_time():
    together = threading.Barrier(3, timeout=60)
    size = threads.BATCH_BYTES
    assert list(in_order(lambda _: together.wait(), range(3), lambda _: size, 3)) is not None


def test_what_nobody_waits_for_is_not_begun():
    begun, may_end = [], threading.Event()

    def function(value: int) -> int:
        begun.append(value)
        if value:
            may_end.wait(60)
        return value

    found = in_order(function, range(100), lambda _: threads.BATCH_BYTES, 2)
    next(found)
    found.close()
    may_end.set()
    assert len(begun) <= 3


def test_a_worker_process_of_an_engine_uses_one_thread(monkeypatch):
    assert threads.num_threads() >= 1
    worker = types.SimpleNamespace(__spec__=types.SimpleNamespace(name=threads.ENGINE_WORKER))
    monkeypatch.setitem(sys.modules, "__main__", worker)
    assert threads.num_threads() == 1

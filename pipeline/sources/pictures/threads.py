"""Decoding on all cores: Pillow lets other threads run while it decodes and resizes.

Sets are often one shard, so pieces alone would keep one core busy.
"""

import collections
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

# Handing work to a thread takes as long as decoding a thumbnail: so several go together.
BATCH_VALUES = 16
BATCH_BYTES = 64 << 10
AHEAD_BATCHES = 3  # for each thread
AHEAD_BYTES = 64 << 20  # for all threads together; one batch may be larger
ENGINE_WORKER = "apache_beam.runners.worker.sdk_worker_main"
T = TypeVar("T")
R = TypeVar("R")


class _Outcome(NamedTuple):
    """The results of a batch, up to an exception if there was one."""

    results: list
    error: BaseException | None = None


def num_threads() -> int:
    """Returns how many threads decode in this process: one for each core that it may use.

    One in a worker process of an engine, because engines start a process for each core.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name == ENGINE_WORKER:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[T], R],
    values: Iterable[T],
    num_bytes: Callable[[T], int],
    threads: int | None = None,
) -> Iterator[R]:
    """Yields `function` of each value, in the order of the values, worked out by several threads.

    As with `map`, an exception of `function` or of the iterator comes after the results of all
    values before it. A few values are read ahead.

    Args:
      num_bytes: how much memory a value and its result take.
      threads: how many threads; None: `num_threads()`.
    """
    threads = num_threads() if threads is None else threads
    if threads == 1:
        yield from map(function, values)
        return
    pool = _pool(os.getpid(), threads)
    coming: collections.deque[tuple[Future[_Outcome], int]] = collections.deque()
    ahead = 0
    try:
        for batch, error, size in _batches(values, num_bytes):
            while coming and (len(coming) >= AHEAD_BATCHES * threads or ahead + size > AHEAD_BYTES):
                future, done = coming.popleft()
                ahead -= done
                yield from _results(future.result())
            coming.append((pool.submit(_outcome, function, batch, error), size))
            ahead += size
        while coming:
            yield from _results(coming.popleft()[0].result())
    finally:
        for future, _ in coming:
            future.cancel()


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Returns the threads of this process: one pool, however many pieces it reads at a time.

    Args:
      process: its number, because threads do not survive a fork.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


def _batches(
    values: Iterable[T], num_bytes: Callable[[T], int]
) -> Iterator[tuple[list[T], Exception | None, int]]:
    """Yields (values, exception of the iterator after them, bytes); the last may have no values."""
    batch: list[T] = []
    size = 0
    try:
        for value in values:
            batch.append(value)
            size += num_bytes(value)
            if len(batch) == BATCH_VALUES or size >= BATCH_BYTES:
                yield batch, None, size
                batch, size = [], 0
    except Exception as error:  # in its turn, for whoever waits for the results
        yield batch, error, size
    else:
        yield batch, None, size


def _outcome(function: Callable[[T], R], batch: list[T], error: Exception | None) -> _Outcome:
    results: list[R] = []
    try:
        results.extend(map(function, batch))  # keeps those before an exception
    except Exception as raised:
        return _Outcome(results, raised)
    return _Outcome(results, error)


def _results(outcome: _Outcome) -> Iterator:
    yield from outcome.results
    if outcome.error is not None:
        raise outcome.error

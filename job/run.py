"""The command `run`: images → shards → a result, all on this machine.

Sharding needs Beam and a fit needs TensorFlow. Each takes a second or more to import and some
hundred megabytes. So the images are sharded in a process of its own, while this one imports
TensorFlow, and neither loads both.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from job.config import SHARDS, FitConfig
from job.distribute import preemption, process
from job.result.folder import prepare_output
from pipeline import interrupts
from pipeline.config import ShardConfig
from pipeline.errors import JobError, UserError
from pipeline.shard import complete_shards, shard
from pipeline.terminal import configure

GRACE_SECONDS = 5.0  # for the other process to end by itself


class OtherProcessError(Exception):
    """An exception of the other process that nobody expected; the text is its traceback."""


def run(
    shards: ShardConfig,
    config: FitConfig,
    ks: Sequence[int],
    log_level: str = "warning",
    guard: preemption.Guard = preemption.unguarded,
) -> dict[str, Any]:
    """Shards images and fits them; leaves out what an earlier run of the same command has done.

    Args:
      shards: where to, from what and how.
      config: of the fit, of several that of the largest k; its output also holds the shards.
      ks: the numbers of clusters: one, or several for a sweep.
      log_level: of the process that shards, as in `terminal.configure`.
      guard: what to do with signals during the fit, as in `job.fit.fit`.

    Returns:
      What metrics.json says, or sweep.json where there are several `ks`.

    Raises:
      UserError: the input, an option, or the output folder is at fault.
    """
    prepare_output(config.output, ks, config.overwrite, (SHARDS,))
    if complete_shards(shards) is None:
        with in_other_process(functools.partial(shard, shards), log_level) as finish:
            process.prepare()
            from job import fit, sweep  # with all that they import

            finish()
    else:
        process.prepare()
        from job import fit, sweep
    if len(ks) > 1:
        return sweep.fit_each(config, ks, (SHARDS,), guard=guard)
    return fit.fit(config, (SHARDS,), guard=guard)


@contextlib.contextmanager
def in_other_process(work: Callable[[], Any], log_level: str) -> Iterator[Callable[[], None]]:
    """Starts `work` in a new process; ends that process at the end of the block, whatever happens.

    Ctrl-C and SIGTERM are this process's affair: the other one ignores the first, and is asked to
    end when this one ends.

    Args:
      work: can be pickled; what it returns is dropped.
      log_level: of the command, as in `terminal.configure`.

    Yields:
      A function that waits for `work`. It raises the UserError or JobError that `work` raised, a
      JobError if the process was killed, an OtherProcessError for any other exception.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, log_level, sender))
    with _ignoring_ctrl_c():
        child.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        yield lambda: _outcome(child, receiver)
    finally:
        child.terminate()
        child.join(GRACE_SECONDS)
        child.kill()
        child.join()


def _outcome(child: BaseProcess, receiver: Connection) -> None:
    """Waits for the outcome of the other process; raises what it sends, if it is an error."""
    try:
        outcome = receiver.recv()
    except EOFError:
        child.join()
        raise JobError(
            f"the process that shards the images ended with status {child.exitcode}, perhaps "
            "for want of memory; run the same command again"
        ) from None
    if isinstance(outcome, str):
        raise OtherProcessError(outcome)
    if outcome is not None:
        raise outcome


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Ignores SIGINT during the block, and in the processes that are started there."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(work: Callable[[], Any], log_level: str, sender: Connection) -> None:
    """Runs `work`, in the other process, and sends None or its error."""
    # As Ctrl-C would: what is under way ends in order, with all that it has started.
    interrupts.end_silently()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure(log_level)
    outcome: Exception | str | None = None
    try:
        work()
    except (UserError, JobError) as error:
        outcome = error
    except KeyboardInterrupt:
        os._exit(preemption.STATUS)  # threads of the engine go on; the parent has ended, or knows
    except Exception:
        outcome = traceback.format_exc()
    # The parent ends this process as soon as it has the outcome, when nothing is left to be ended.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sender.send(outcome)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it ended.

    Otherwise it would go on writing shards beside those of the same command run again.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(preemption.STATUS)

"""The command `run`: shards the images in a process of its own, while this one gets ready to fit.

Sharding needs Beam and a fit needs TensorFlow. Each takes a second or more to import and some
hundred megabytes, so neither process loads both.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from job.distribute import preemption
from pipeline.errors import JobError, UserError
from pipeline.terminal import configure

GRACE_SECONDS = 5.0  # for the other process to end by itself


class OtherProcessError(Exception):
    """An exception of the other process that nobody expected; the text is its traceback."""


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
    process = context.Process(target=_work, args=(work, log_level, sender))
    with _ignoring_ctrl_c():
        process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        yield lambda: _outcome(process, receiver)
    finally:
        process.terminate()
        process.join(GRACE_SECONDS)
        process.kill()
        process.join()


def _outcome(process: BaseProcess, receiver: Connection) -> None:
    """Waits for the outcome of the other process; raises what it sends, if it is an error."""
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise JobError(
            f"the process that shards the images ended with status {process.exitcode}, perhaps "
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure(log_level)
    try:
        work()
        sender.send(None)
    except (UserError, JobError) as error:
        sender.send(error)
    except KeyboardInterrupt:
        pass  # the parent has ended, or knows
    except Exception:
        sender.send(traceback.format_exc())
    finally:
        # What is left is the interpreter's end, which nothing needs to wait for.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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

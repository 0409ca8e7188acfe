"""Work in a new Python process, whose errors are raised in this one.

The two are connected by a pair of sockets: the work goes one way, its outcome the other, and each
learns from the end of the connection that the other process is gone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from job.distribute import preemption
from pipeline import interrupts
from pipeline.errors import JobError, UserError
from pipeline.interpreter import child_environment
from pipeline.terminal import configure

GRACE_SECONDS = 5.0  # for the other process to end by itself


class OtherProcessError(Exception):
    """An exception of the other process that nobody expected; the text is its traceback."""


@contextlib.contextmanager
def in_other_process(
    work: Callable[[], Any], messages: tuple[str, str]
) -> Iterator[Callable[[], None]]:
    """Starts `work` in a new process; ends that process at the end of the block, whatever happens.

    Ctrl-C and SIGTERM are this process's affair: the other one ignores the first, and is asked to
    end when this one ends.

    Args:
      work: can be pickled; what it returns is dropped.
      messages: their level and format, as in `terminal.configure`.

    Yields:
      A function that waits for `work`. It raises the UserError or JobError that `work` raised, a
      JobError if the process was killed, an OtherProcessError for any other exception.
    """
    connection, far_end = Pipe()
    child = _start(far_end)
    far_end.close()  # so that the end of the process is the end of the connection
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already, as its outcome will say
            connection.send((work, messages))
        yield lambda: _raise_outcome(child, connection)
    finally:
        _end(child)
        connection.close()


def _start(connection: Connection) -> subprocess.Popen:
    """Starts the other process with its end of the connection."""
    descriptor = connection.fileno()
    with _ignoring_ctrl_c():
        return subprocess.Popen(
            [sys.executable, "-m", "job.other_process", str(descriptor)],
            env=child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )


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


def _end(child: subprocess.Popen) -> None:
    """Asks the process to end; kills it if it does not."""
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _raise_outcome(child: subprocess.Popen, connection: Connection) -> None:
    """Waits for the outcome of the other process; raises it, if it is an error."""
    try:
        error = connection.recv()
    except (EOFError, ConnectionResetError):
        raise JobError(
            f"the process that shards the images ended with status {child.wait()}, perhaps for "
            "want of memory; run the same command again"
        ) from None
    if isinstance(error, str):
        raise OtherProcessError(error)
    if error is not None:
        raise error


def main(descriptor: int) -> None:
    """Runs the work that is received, in the other process; sends None or its error."""
    connection = Connection(descriptor)
    os.set_inheritable(descriptor, False)
    # As Ctrl-C would: what is under way ends in order, with all that it has started.
    interrupts.end_silently()
    error: Exception | str | None = None
    try:
        work, messages = connection.recv()
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        configure(*messages)
        work()
    except (UserError, JobError) as raised:
        error = raised
    except KeyboardInterrupt:
        os._exit(preemption.STATUS)  # threads of the engine go on; the parent has ended, or knows
    except Exception:
        error = traceback.format_exc()
    # The parent ends this process as soon as it has the outcome, when nothing is left to be ended.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(BrokenPipeError):  # nobody is there to be told
        connection.send(error)


def _end_with_parent(connection: Connection) -> None:
    """Ends this process when the one that started it is gone, however it ended.

    Otherwise it would go on writing shards beside those of the same command run again.
    """
    wait([connection])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(preemption.STATUS)


if __name__ == "__main__":
    main(int(sys.argv[1]))

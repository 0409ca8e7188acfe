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
from pipeline.errors import JobError, UserError
from pipeline.interpreter import child_environment
from pipeline.terminal import configure

GRACE_SECONDS = 5.0  # for the other process to end by itself


class OtherProcessError(Exception):
    """An exception of the other process that nobody expected; the text is its traceback."""


@contextlib.contextmanager
def in_other_process(work: Callable[[], Any], log_level: str) -> Iterator[Callable[[], None]]:
    """Starts `work` in a new process; ends that process at the end of the block, whatever happens.

    An error of `work` ends the block at once, where the block runs in the main thread. Ctrl-C and
    SIGTERM are this process's affair: the other one ignores the first, and is asked to end when
    this one ends.

    Args:
      work: can be pickled; what it returns is dropped.
      log_level: of the command, as in `terminal.configure`.

    Yields:
      A function that waits for `work`. It raises the UserError or JobError that `work` raised, a
      JobError if the process was killed, an OtherProcessError for any other exception.
    """
    connection, far_end = Pipe()
    child = _start(far_end)
    far_end.close()  # so that the end of the process is the end of the connection
    outcome = _Outcome(child, connection)
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already, as `outcome` will say
            connection.send((work, log_level))
        yield outcome.wait
    except KeyboardInterrupt:
        outcome.raise_error()
        raise
    finally:
        outcome.stop_interrupting()
        _end(child)
        outcome.join()
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
    if not _is_main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(child: subprocess.Popen) -> None:
    """Asks the process to end; kills it if it does not."""
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _Outcome:
    """The outcome of the other process, received by a thread.

    An error interrupts the main thread as Ctrl-C would: it may be amid an import that takes
    seconds. Once it waits for the outcome there is no need to.
    """

    def __init__(self, child: subprocess.Popen, connection: Connection):
        self._child, self._connection = child, connection
        self._error: Exception | None = None
        self._creator = threading.get_ident()
        self._lock = threading.Lock()
        self._interrupts = (
            _is_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()

    def wait(self) -> None:
        """Waits until there is an outcome; raises it, if it is an error."""
        self.stop_interrupting()
        self.join()
        self.raise_error()

    def raise_error(self) -> None:
        """Raises the error of the other process, if there is one already."""
        if self._error is not None:
            raise self._error from None

    def stop_interrupting(self) -> None:
        """Leaves the main thread alone from now on."""
        with self._lock:
            self._interrupts = False

    def join(self) -> None:
        self._receiver.join()

    def _receive(self) -> None:
        try:
            error = self._connection.recv()
        except (EOFError, ConnectionResetError):
            error = JobError(
                f"the process that shards the images ended with status {self._child.wait()}, "
                "perhaps for want of memory; run the same command again"
            )
        with self._lock:
            self._error = OtherProcessError(error) if isinstance(error, str) else error
            if self._error is not None and self._interrupts:
                signal.pthread_kill(self._creator, signal.SIGINT)


def main(descriptor: int) -> None:
    """Runs the work that is received, in the other process; sends None or its error."""
    connection = Connection(descriptor)
    os.set_inheritable(descriptor, False)
    # As Ctrl-C would: what is under way ends in order, with all that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    error: Exception | str | None = None
    try:
        work, log_level = connection.recv()
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        configure(log_level)
        work()
    except (UserError, JobError) as raised:
        error = raised
    except KeyboardInterrupt:
        return  # the parent has ended, or knows
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

"""Preemption: SIGTERM says that the machine will be taken away, so a fit ends soon, resumably."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from pipeline.errors import JobError
from pipeline.terminal import error_line

STATUS = 128 + signal.SIGTERM
GRACE_SECONDS = 7.0

# (ask the block to end, save its newest state) → the block in which that may be called
Guard = Callable[[Callable[[], None], Callable[[], None]], AbstractContextManager[None]]


class InterruptedFit(JobError):
    """The fit was asked to end."""

    status = STATUS

    def __init__(self, where: str):
        super().__init__(f"SIGTERM: ended {where}; run the same command again to resume")


@contextlib.contextmanager
def unguarded(ask: Callable[[], None], save: Callable[[], None]) -> Iterator[None]:
    """Leaves signals to whoever called the fit: the Guard outside of the command line."""
    yield


@contextlib.contextmanager
def on_sigterm(
    ask: Callable[[], None], save: Callable[[], None], grace_seconds: float = GRACE_SECONDS
) -> Iterator[None]:
    """Ends the block at SIGTERM, or the process if the block does not end in time.

    A pass over many images may take longer than the grace, and Python runs no signal handler
    before it returns. So the handler only wakes a thread, which does the rest. For the command
    line alone: signal handlers belong to the process.

    Args:
      ask: asks the block to end.
      save: called before the process is ended from outside the block.
      grace_seconds: how long the block may take to end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(read, ask, save, ended, grace_seconds), daemon=True
    )
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        os.close(write)  # ends the thread if it still waits for a signal
        watcher.join()
        os.close(read)


def _watch(
    signals: int,
    ask: Callable[[], None],
    save: Callable[[], None],
    ended: threading.Event,
    grace_seconds: float,
) -> None:
    """Waits for SIGTERM in the pipe `signals`, then for `ended`; else ends the process."""
    while (number := os.read(signals, 1)) and number[0] != signal.SIGTERM:
        pass
    if not number:
        return
    ask()
    if ended.wait(grace_seconds):
        return
    try:
        save()
    finally:
        error_line(str(InterruptedFit("amid a pass")))
        os._exit(STATUS)

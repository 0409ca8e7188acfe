"""Preemption: SIGTERM says that the machine will be taken away, so a fit ends soon, resumably.

So it does at Ctrl-C, even amid a pass that TensorFlow does not leave.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from pipeline import interrupts
from pipeline.errors import JobError
from pipeline.terminal import error_line

STATUS = 128 + signal.SIGTERM
# By signal; who presses Ctrl-C waits.
GRACE_SECONDS: dict[int, float] = {signal.SIGTERM: 7.0, signal.SIGINT: 3.0}

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
    ask: Callable[[], None],
    save: Callable[[], None],
    grace_seconds: Mapping[int, float] = GRACE_SECONDS,
) -> Iterator[None]:
    """Ends the block at SIGTERM or Ctrl-C, or the process if the block does not end in time.

    A pass over many images may take longer than the grace, and Python runs no signal handler
    before it returns. So a thread is woken, which does the rest. For the command line alone:
    signal handlers belong to the process.

    Args:
      ask: asks the block to end, at SIGTERM; at Ctrl-C the handler of the process ends it.
      save: called before the process is ended from outside the block.
      grace_seconds: by signal, how long the block may take to end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    watcher = threading.Thread(target=_watch, args=(read, ask, save, grace_seconds), daemon=True)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        os.close(write)  # ends the thread
        watcher.join()
        os.close(read)


def _watch(
    signals: int,
    ask: Callable[[], None],
    save: Callable[[], None],
    grace_seconds: Mapping[int, float],
) -> None:
    """Waits for a signal in the pipe `signals`, then for its end, which is that of the block.

    If that does not come in time, or another signal does, the process ends.
    """
    while (number := os.read(signals, 1)) and number[0] not in grace_seconds:
        pass
    if not number:
        return
    if number[0] == signal.SIGTERM:
        ask()
    readable, _, _ = select.select([signals], [], [], grace_seconds[number[0]])
    if readable and not os.read(signals, 1):
        return
    try:
        save()
    finally:
        if number[0] == signal.SIGTERM:
            error_line(str(InterruptedFit("amid a pass")))
            os._exit(STATUS)
        interrupts.end(signal.SIGINT)

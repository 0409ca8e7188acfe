"""SIGTERM: the machine will be taken away, so end soon and leave what the next run needs."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from pipeline.errors import JobError
from pipeline.terminal import error_line

STATUS = 128 + signal.SIGTERM
GRACE_SECONDS = 7.0


class InterruptedFit(JobError):
    """The fit was asked to end."""

    status = STATUS

    def __init__(self, where: str):
        super().__init__(f"SIGTERM: ended {where}; run the same command again to go on")


@contextlib.contextmanager
def on_sigterm(
    ask: Callable[[], None], save: Callable[[], None], grace_seconds: float = GRACE_SECONDS
) -> Iterator[None]:
    """Within: SIGTERM calls `ask`, and ends the process if that has not ended the block in time.

    A pass over many images may take longer than the grace, and Python runs no signal handler
    before it returns: a thread does both.

    Args:
      ask: asks the block to end.
      save: called before the process is ended from outside the block.
      grace_seconds: for the block to end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    ended = threading.Event()

    def watch() -> None:
        while (signals := os.read(read, 1)) and signals[0] != signal.SIGTERM:
            pass
        if not signals:
            return
        ask()
        if ended.wait(grace_seconds):
            return
        try:
            save()
        finally:
            error_line("SIGTERM: ended amid a pass; run the same command again to resume")
            os._exit(STATUS)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        os.close(write)
        watcher.join()
        os.close(read)

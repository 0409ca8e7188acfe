"""Ctrl-C and SIGTERM: a command ends soon, with one line on stderr and status 130 or 143.

Python's own way is a KeyboardInterrupt in the main thread. That is not enough: threads of engines
go on and print tracebacks, extension modules turn it into other exceptions, and what is raised in a
finaliser is dropped. So the handler also silences stderr but for the one line, and ends the process
if the command has not done so in time. For commands alone: handlers belong to the process.

Imports little, so that it can be first.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

PROGRAM = "kmeans-job"
GRACE_SECONDS = 8.0  # for the command to end, with all that it has started
STDERR = 2
LINES = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "error: SIGTERM: ended before it was done; run the same command again to "
    "resume",
}


class _State:
    """What this process has been told; there is one, as there is one set of handlers."""

    received: int | None = None  # the first signal
    is_at_work = False  # whether there may be something to be cleaned up
    terminal: int | None = None  # a copy of stderr, where the line goes
    has_told = False
    make_line: Callable[[str], str] | None = None


def run(load: Callable[[], Callable[[], int]]) -> int:
    """Runs a command whose signals are handled from before its imports, which take a while.

    Args:
      load: imports the command line and returns its main function.

    Returns:
      The exit status.
    """
    install()
    main = load()
    at_work()
    return finish(main())


def install() -> None:
    """Handles SIGINT and SIGTERM from now on, unless whoever started the process ignores them."""
    with contextlib.suppress(OSError):  # it may be closed
        # Now, because what is printed while TensorFlow is loaded is held back for a time.
        _State.terminal = os.dup(STDERR)
    for number in LINES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)


def end_silently() -> None:
    """Handles SIGTERM in a process that another one of this command has started, and told."""
    signal.signal(signal.SIGTERM, _handle)
    _State.has_told = _State.is_at_work = True


def at_work() -> None:
    """Lets the command end in order from now on; before, there is nothing to be put in order."""
    _State.is_at_work = True


def finish(status: int) -> int:
    """Ignores both signals from now on, and returns `status`.

    If one of them has ended the command, the process ends here: threads of engines may still run.
    """
    for number in LINES:
        signal.signal(number, signal.SIG_IGN)
    if _State.received is not None and status:
        os._exit(status)
    return status


def status() -> int | None:
    """The exit status of a process that has got a signal; None if it has not."""
    return None if _State.received is None else 128 + _State.received


def tell_as(line: Callable[[str], str]) -> None:
    """Lets `line` make the line that says why the command ends, of its text."""
    _State.make_line = line


def tell() -> None:
    """Prints, once, why the command ends."""
    if _State.received is None or _State.has_told:
        return
    _State.has_told = True
    text = LINES[signal.Signals(_State.received)]
    line = _State.make_line(text) if _State.make_line else f"{PROGRAM}: {text}"
    if _State.terminal is not None:
        with contextlib.suppress(OSError):
            os.write(_State.terminal, f"{line}\n".encode())


def silence() -> None:
    """Drops all that is printed on stderr from now on."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDERR)
        os.close(nowhere)


def end(number: int) -> None:
    """Ends the process at once because of a signal whose handler has perhaps not run yet."""
    _State.received = _State.received or number
    _end_now()


def _handle(number: int, _: FrameType | None) -> None:
    """Ends the command in order; at the second signal, or before it has begun, at once."""
    again = _State.received is not None
    if not again:
        _State.received = number
        silence()
    if again or not _State.is_at_work:
        _end_now()
    watchdog = threading.Timer(GRACE_SECONDS, _end_now)
    watchdog.daemon = True
    watchdog.start()
    raise KeyboardInterrupt


def _end_now() -> None:
    tell()
    os._exit(status() or 1)

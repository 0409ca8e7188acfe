"""Standard streams of a command that cannot fail: whether they can be written changes no result.

A pipe may close, as `| head` does; a disk may be full; a terminal may know ASCII only; or whoever
starts the command may have closed a stream. None of that is the fault of the job.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

STDIN, STDOUT, STDERR = 0, 1, 2


class _Forgiving(io.RawIOBase):
    """Writes bytes to a file descriptor, and drops what it does not take."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]
        return size


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Lets writing to stdout and stderr always succeed during the block.

    What a stream's encoding cannot express is written with backslashes. Streams that somebody has
    replaced, as tests and notebooks do, stay as they are.
    """
    fill_closed()
    before = sys.stdout, sys.stderr
    sys.stdout = _replaced(sys.stdout, sys.__stdout__, STDOUT)
    sys.stderr = _replaced(sys.stderr, sys.__stderr__, STDERR)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def fill_closed() -> None:
    """Opens /dev/null in place of closed standard streams.

    Otherwise the next file that is opened gets such a number, and what a library prints there goes
    into that file.
    """
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def _replaced(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None and (stream is not original or not _is_at(stream, descriptor)):
        return stream
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Forgiving(descriptor)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _is_at(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):
        return False

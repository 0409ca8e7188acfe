"""What a person sees on the terminal: option errors, progress, exit status."""

import argparse
import contextlib
import difflib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TextIO

from tqdm import tqdm

from pipeline.errors import JobError, UserError

PROGRAM = "kmeans-job"
# What TensorFlow and Beam's workers print on a machine where nothing is wrong.
CHATTER = re.compile(
    r"(INFO|WARNING):|I\d{4} |To enable the following instructions|"
    r"E\d{4} .*(cuInit|Unable to register cu)|W\d{4} .*Not handling type DT_DOUBLE"
)
LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal to redraw


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, raised as UserError."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see: {self.prog} --help)")

    def flags(self) -> list[str]:
        """The long flags this parser knows, e.g. `--output`."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def reject_flag(flag: str, known: Iterable[str]) -> NoReturn:
    """Raises the UserError for a flag nobody knows, naming the nearest that exists."""
    name = flag.split("=")[0]
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if not name.startswith("-"):
        raise UserError(f"unexpected argument {name!r}: options start with --")
    raise UserError(f"unknown option {name}" + (f": did you mean {near[0]}?" if near else ""))


def exit_status(main: Callable[[], None]) -> int:
    """Runs `main`; 0 if it returns, 2 with one line on stderr if the user is at fault.

    Any other exception goes through, so that the interpreter prints it and exits with 1.
    """
    try:
        main()
    except UserError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except JobError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


def note(text: str) -> None:
    """A line on stderr about something that does not stop the job."""
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def without_chatter() -> Iterator[TextIO]:
    """Holds back what libraries and their processes print on stderr, and then leaves CHATTER out.

    If the user is at fault nothing of it is printed: the error says what there is to say.
    TensorFlow logs to the file descriptor before any log level can be set, Beam's workers as well.

    Yields:
      The stderr that is seen at once.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "w") as terminal:
        os.dup2(held.fileno(), 2)
        shown = True
        try:
            yield terminal
        except UserError:
            shown = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines() if shown else ():
                if not CHATTER.match(line):
                    print(line, file=sys.stderr)


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere, nothing when quiet.

    Args:
      title: what is going on, e.g. `fit`.
      total: units until done, or None where nobody knows.
      unit: the word after the count, e.g. `images`.
      clock: seconds, monotonic.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._total, self._unit = title, total, unit
        self._stream = stream or sys.stderr
        self._clock, self._last = clock, -float("inf")
        self._quiet = quiet
        self._line = ""
        self._bar: tqdm | None = None
        if not quiet and self._stream.isatty():
            self._bar = tqdm(
                desc=title, total=total, unit=f" {unit}", file=self._stream, leave=True
            )

    def update(self, done: int, figures: str = "") -> None:
        """Shows that `done` units are done; `figures` is appended as it is."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        of = f"/{self._total:,}" if self._total is not None else ""
        self._line = f"{self._title}: {done:,}{of} {self._unit}" + (figures and f", {figures}")
        if self._clock() - self._last >= LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        if self._line:
            print(self._line, file=self._stream, flush=True)
        self._line, self._last = "", self._clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc) -> None:
        if self._bar is not None:
            self._bar.close()
        self._print()

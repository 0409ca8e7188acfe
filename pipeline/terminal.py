"""The command line's side of the process: options, exit status, log messages, progress.

Everything but `Progress` is for commands alone: a library leaves the process as it is.
"""

import argparse
import contextlib
import datetime
import difflib
import importlib.util
import json
import logging
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TextIO

from tqdm import tqdm

from pipeline import interrupts
from pipeline.errors import JobError, UserError

PROGRAM = interrupts.PROGRAM
LOG_LEVELS = ("debug", "info", "warning", "error")
TEXT, JSON = LOG_FORMATS = ("text", "json")
OURS = ("job", "pipeline", "kmeans_job")  # packages whose log messages need no name before them
OWN_LEVEL = ("absl", "tensorflow", "google.auth")  # loggers that do not take the root's
SILENT = "3"  # of TF_CPP_MIN_LOG_LEVEL: no line of information, warning or error
# What TensorFlow's libraries print as they are loaded: I, W or E, month and day, …
LOADING = re.compile(rb"WARNING: All log messages before|[IWE]\d{4} ")
LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal to redraw


class Parser(argparse.ArgumentParser):
    """An argument parser that raises its errors as UserError, in one line."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see: {self.prog} --help)")

    def flags(self) -> list[str]:
        """Returns the long flags that this parser knows, e.g. `--output`."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def reject_flag(flag: str, known: Iterable[str]) -> NoReturn:
    """Raises the UserError for an unknown flag; it names the most similar one of `known`."""
    name = flag.split("=")[0]
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if not name.startswith("-"):
        raise UserError(f"unexpected argument {name!r}: options start with --")
    raise UserError(f"unknown option {name}" + (f": did you mean {near[0]}?" if near else ""))


def exit_status(main: Callable[[], None]) -> int:
    """Runs `main` and returns the exit status of the process.

    0 if it returns; 2 for a UserError, the status of a JobError, 130 for Ctrl-C, each with one line
    on stderr. Any other exception goes through: the interpreter prints it and exits with 1. Where
    messages are JSON, its traceback is one too.
    """
    try:
        main()
    except (UserError, JobError) as error:
        if interrupts.status() is None:  # else it may be what the interruption has caused
            error_line(str(error))
            return 2 if isinstance(error, UserError) else error.status
    except KeyboardInterrupt:
        if interrupts.status() is None:  # nobody has installed the handlers
            print(_line("ERROR", "interrupted"), file=sys.stderr)
            return 130
    except BaseException:
        if interrupts.status() is None:
            if not _writes_json():
                raise
            print(_line("CRITICAL", traceback.format_exc()), file=sys.stderr, flush=True)
            return 1
    else:
        return 0
    interrupts.tell()
    return interrupts.status() or 1


def error_line(text: str) -> None:
    """Prints why the command ends, in one line on stderr."""
    print(_line("ERROR", f"error: {' '.join(text.split())}"), file=sys.stderr, flush=True)


def _line(severity: str, text: str) -> str:
    """Returns a line for stderr, in the format of this process's messages."""
    return json_line(severity, text) if _writes_json() else f"{PROGRAM}: {text}"


def json_line(severity: str, message: str, seconds: float | None = None, **more: str) -> str:
    """Returns a line with the fields that Cloud Logging knows, and `more`.

    Args:
      severity: a level of logging's, in capitals.
      seconds: since 1970; None: now.
    """
    moment = datetime.datetime.fromtimestamp(
        time.time() if seconds is None else seconds, datetime.UTC
    )
    written = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"severity": severity, "message": message, "time": written, **more})


def _writes_json() -> bool:
    """Tells whether the messages of this process are JSON."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.root.handlers)


class _Handler(logging.Handler):
    """Prints log messages on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # sys.stderr is looked up anew: tests and notebooks replace it.
            tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    """`kmeans-job: message`, with the logger's name where it is another library's."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        ours = record.name.partition(".")[0] in OURS
        return f"{PROGRAM}: {'' if ours else record.name + ': '}{record.message}"


class _JsonFormatter(logging.Formatter):
    """A line of JSON for each message, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        return json_line(record.levelname, message, record.created, logger=record.name)


def configure(log_level: str = "warning", log_format: str = TEXT) -> None:
    """Sets up the process of a command: which log messages and warnings are shown.

    Must be called before TensorFlow is imported. A second call changes the level only.

    Args:
      log_level: one of LOG_LEVELS; `debug` also shows what other libraries say.
      log_format: one of LOG_FORMATS.
    """
    shown = logging.getLevelNamesMapping()[log_level.upper()]
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        handler = _Handler()
        handler.setFormatter(_JsonFormatter() if log_format == JSON else _Formatter())
        root.addHandler(handler)
        interrupts.tell_as(lambda text: _line("ERROR", text))
    for name in OURS:
        logging.getLogger(name).setLevel(shown)
    # Libraries warn of what is as it should be: optional parts that are not installed, graphs that
    # are traced again on purpose. What is an error they raise, so little is lost.
    debug = log_level == "debug"
    for own_level in (None, *OWN_LEVEL):
        logging.getLogger(own_level).setLevel(logging.DEBUG if debug else logging.ERROR)
    # What fails inside an engine Beam logs with a traceback, before it raises it.
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    # TensorFlow's own E-lines are left out too. On a machine where nothing is wrong they say that
    # there is no GPU; what is wrong it raises as an exception besides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else SILENT)
    # Pillow warns of large images, which the sources reject with a reason.
    warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit")
    # The search for credentials asks a server that only Google's machines have: once, briefly.
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")


@contextlib.contextmanager
def without_loading_lines() -> Iterator[None]:
    """Holds back what TensorFlow's libraries print as they are loaded: for its first import.

    They print some lines before they read any setting. So what is written to file descriptor 2
    during the block is printed at its end, less LOADING. This does nothing unless TensorFlow's own
    setting says that it shall print no such lines, as `configure` does, or if it has been loaded.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != SILENT or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "wb") as terminal:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            if interrupts.status() is None:  # else it stays silent
                os.dup2(terminal.fileno(), 2)
            held.seek(0)
            shown = b"".join(line for line in held if not LOADING.match(line))
            with contextlib.suppress(OSError):
                os.write(terminal.fileno(), shown)


def in_notebook() -> bool:
    """Whether this process runs the cells of a notebook that can show a bar."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    # Without ipywidgets tqdm's bar for notebooks is a warning.
    has_widgets = importlib.util.find_spec("ipywidgets") is not None
    return type(shell).__name__ == "ZMQInteractiveShell" and has_widgets


class Progress:
    """Shows progress: a bar on a terminal, a line every few seconds elsewhere, nothing if quiet.

    A notebook with ipywidgets has a bar of its own.

    Args:
      title: what is going on, e.g. `fit`.
      total: how many units there are; None where nobody knows.
      unit: the word after the count, e.g. `images`.
      quiet: shows nothing.
      stream: where to; None: stderr.
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
        if quiet:
            return
        if stream is None and in_notebook():
            from tqdm.auto import tqdm as bar_of_notebook

            self._bar = bar_of_notebook(desc=title, total=total, unit=f" {unit}", leave=True)
        elif self._stream.isatty() and not _writes_json():
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
            shown = json_line("INFO", self._line) if _writes_json() else self._line
            print(shown, file=self._stream, flush=True)
        self._line, self._last = "", self._clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc) -> None:
        if self._bar is not None:
            self._bar.close()
        self._print()

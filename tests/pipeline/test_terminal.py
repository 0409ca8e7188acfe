"""What a person sees: option errors, progress by a given clock, exit status."""

import contextlib
import io
import json
import logging
import os
import re
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.terminal import (
    LINE_SECONDS,
    OWN_LEVEL,
    Parser,
    Progress,
    configure,
    exit_status,
    in_notebook,
    reject_flag,
    without_loading_lines,
)


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_success_is_0():
    assert exit_status(lambda: None) == 0


def test_the_users_fault_is_2_and_one_line(capsys):
    assert exit_status(raising(UserError("x.npz: damaged\nand  more"))) == 2
    assert capsys.readouterr().err == "kmeans-job: error: x.npz: damaged\\nand more\n"


def test_interrupted_is_130(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "kmeans-job: interrupted\n"


def test_other_errors_go_through():
    with pytest.raises(ZeroDivisionError):
        exit_status(raising(ZeroDivisionError()))


def test_parser_errors_are_the_users():
    parser = Parser(prog="shard")
    parser.add_argument("--num-shards", type=int)
    with pytest.raises(UserError, match=r"invalid int value: 'x' \(see: shard --help\)"):
        parser.parse_args(["--num-shards", "x"])
    assert parser.flags() == ["--help", "--num-shards"]


def test_flags_are_not_abbreviated():
    parser = Parser()
    parser.add_argument("--num-shards", type=int)
    assert parser.parse_known_args(["--num", "3"])[1] == ["--num", "3"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num-shard=3", "unknown option --num-shard: did you mean --num-shards?"),
        ("--zzz", "unknown option --zzz"),
        ("stray", "unexpected argument 'stray': options start with --"),
    ],
)
def test_unknown_flags_name_the_nearest(flag, message):
    with pytest.raises(UserError) as caught:
        reject_flag(flag, ["--num-shards", "--output"])
    assert str(caught.value) == message


def test_progress_in_lines_where_there_is_no_terminal():
    now = [0.0]
    with Progress(
        "shard", 1000, "images", stream=(out := io.StringIO()), clock=lambda: now[0]
    ) as p:
        for done in (0, 100, 250):
            p.update(done)
            now[0] += 0.6 * LINE_SECONDS
        p.update(1000, "fast")
    assert out.getvalue().splitlines() == [
        "shard: 0/1,000 images",
        "shard: 250/1,000 images",
        "shard: 1,000/1,000 images, fast",
    ]


def test_quiet_is_quiet():
    with Progress("shard", None, "images", quiet=True, stream=(out := io.StringIO())) as progress:
        progress.update(5)
    assert out.getvalue() == ""


def test_a_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Progress("shard", 10, "images", stream=(out := Terminal())) as progress:
        progress.update(10, "fast")
    assert "shard: 100%" in out.getvalue()
    assert "10/10" in out.getvalue()


@pytest.fixture
def configured():
    """`configure`, and everything as it was before at the end."""
    loggers = [
        logging.getLogger(name) for name in (None, *OWN_LEVEL, "job", "pipeline", "kmeans_job")
    ]
    root = logging.getLogger()
    before = [logger.level for logger in loggers], root.handlers[:]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TF_CPP_MIN_LOG_LEVEL", "GCE_METADATA_DETECT_RETRIES"):
            patch.delenv(name, raising=False)
        for handler in root.handlers[:]:
            if type(handler).__module__ == configure.__module__:  # of an earlier test's command
                root.removeHandler(handler)
        yield configure
    for logger, level in zip(loggers, before[0], strict=True):
        logger.setLevel(level)
    root.handlers[:] = before[1]


@pytest.mark.parametrize(
    ("level", "shown"),
    [("error", []), ("warning", ["warning"]), ("info", ["info", "warning"])],
)
def test_log_messages_are_shown_from_a_level_on(configured, capsys, level, shown):
    configured(level)
    configured(level)  # twice is as once
    logger = logging.getLogger("pipeline.somewhere")
    logger.debug("debug")
    logger.info("info")
    logger.warning("warning")
    assert capsys.readouterr() == ("", "".join(f"kmeans-job: {text}\n" for text in shown))


def lines_of_json(capsys) -> list[dict]:
    """What was printed on stderr, a dict a line; each has a time, which is left out."""
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", each.pop("time")) for each in found
    )
    return found


def test_messages_as_json(configured, capsys):
    configured("info", "json")
    logging.getLogger("job.fit").info("of %d\nlines", 2)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("pipeline.x").exception("failed")
    first, second = lines_of_json(capsys)
    assert first == {"severity": "INFO", "message": "of 2\nlines", "logger": "job.fit"}
    assert (second["severity"], second["logger"]) == ("ERROR", "pipeline.x")
    assert second["message"].startswith("failed\nTraceback (most recent call last):\n")
    assert second["message"].endswith("\nValueError: broken")


def test_whatever_ends_a_command_is_json_too(configured, capsys):
    configured(log_format="json")
    for error, status, severity, text in [
        (UserError("x.npz: damaged"), 2, "ERROR", "error: x.npz: damaged"),
        (KeyboardInterrupt(), 130, "ERROR", "interrupted"),
    ]:
        assert exit_status(raising(error)) == status
        assert lines_of_json(capsys) == [{"severity": severity, "message": text}]
    assert exit_status(raising(ZeroDivisionError("by 0"))) == 1
    (told,) = lines_of_json(capsys)
    assert told["severity"] == "CRITICAL"
    assert told["message"].endswith("\nZeroDivisionError: by 0\n")


def test_progress_as_json(configured, capsys):
    configured(log_format="json")
    with Progress("fit", None, "iterations") as progress:
        progress.update(3, "inertia 5")
    assert lines_of_json(capsys) == [
        {"severity": "INFO", "message": "fit: 3 iterations, inertia 5"}
    ]


def test_other_libraries_are_named(configured, capsys):
    configured()
    logging.getLogger("another.library").warning("an optional part is missing")
    logging.getLogger("another.library").error("broken")
    logging.warning("of a library without a logger")
    assert capsys.readouterr().err == "kmeans-job: another.library: broken\n"


def test_debug_shows_everything(configured, capsys):
    configured("debug")
    logging.getLogger("apache_beam.runners").debug("no such option")
    assert capsys.readouterr().err == "kmeans-job: apache_beam.runners: no such option\n"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_a_level_of_the_users_own_stays(configured, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    configured()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"


PRINTING = """
import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n")
os.write(2, b"I0000 00:00:1 2 port.cc:153] oneDNN custom operations are on\\nnot found\\n")
os.write(2, b"E0000 00:00:1 2 cuda.cc:1] failed call to cuInit\\n")
"""


@pytest.fixture
def printing(configured, monkeypatch, tmp_path):
    """Makes `import tensorflow` print what it does, and then run some code; returns its file."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # of another test
    (module := tmp_path / "tensorflow.py").write_text(PRINTING)
    yield module
    sys.modules.pop("tensorflow", None)


@pytest.mark.parametrize("ending", ["", "raise ImportError('damaged')"])
def test_what_tensorflow_prints_while_it_is_loaded(configured, printing, capfd, ending):
    printing.write_text(PRINTING + ending)
    configured()
    expected = pytest.raises(ImportError) if ending else contextlib.nullcontext()
    with expected, without_loading_lines():
        import_module("tensorflow")
    assert capfd.readouterr().err == "not found\n"
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_debug_shows_what_tensorflow_prints(configured, printing, capfd):
    configured("debug")
    with without_loading_lines():
        import_module("tensorflow")
    assert capfd.readouterr().err.count("\n") == 4


def test_only_the_first_import_is_held_back(configured, printing, monkeypatch, capfd):
    configured()
    monkeypatch.setitem(sys.modules, "tensorflow", os)
    with without_loading_lines():
        os.write(2, b"I0101 of a thread\n")
    assert capfd.readouterr().err == "I0101 of a thread\n"


def test_a_notebook_has_a_bar_of_its_own(monkeypatch, capsys):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipywidgets", ModuleType("ipywidgets"))
    sys.modules["ipywidgets"].__spec__ = ModuleSpec("ipywidgets", None)
    made = []

    class Bar(tqdm):
        def __init__(self, **how):
            made.append(how)
            super().__init__(**how)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    with Progress("fit", 4, "iterations") as progress:
        progress.update(3, "inertia 5")
    assert made == [{"desc": "fit", "total": 4, "unit": " iterations", "leave": True}]
    assert "3/4" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "ipywidgets")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not in_notebook()
    with Progress("fit", 4, "iterations") as progress:
        progress.update(3)
    assert capsys.readouterr().err == "fit: 3/4 iterations\n"


def test_a_shell_of_ipython_is_no_notebook(monkeypatch):
    assert not in_notebook()
    shell = type("TerminalInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not in_notebook()

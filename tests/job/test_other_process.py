"""Work in a process of its own, whose errors and end are those of the command."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import pytest

from job.other_process import OtherProcessError, in_other_process
from pipeline import storage
from pipeline.errors import JobError, UserError

PATIENCE_SECONDS = 60.0


def outcome_of(work) -> None:
    with in_other_process(work, ("warning", "text")) as finish:
        finish()


def test_work_is_done(tmp_path):
    outcome_of(functools.partial(storage.write_bytes, str(tmp_path / "made"), b"there"))
    assert (tmp_path / "made").read_bytes() == b"there"


def test_an_error_of_the_user_arrives_as_it_is(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/nothing: cannot read: No such file"):
        outcome_of(functools.partial(storage.read_bytes, str(tmp_path / "nothing")))


def test_any_other_error_arrives_with_its_traceback():
    with pytest.raises(OtherProcessError, match=r"(?s)Traceback.*ValueError: invalid literal"):
        outcome_of(functools.partial(int, "x"))


def test_a_killed_process_is_told_of():
    with pytest.raises(JobError, match="ended with status -9, perhaps for want of memory"):
        outcome_of(functools.partial(signal.raise_signal, signal.SIGKILL))


def test_the_process_ends_with_the_block():
    start = time.monotonic()
    with (
        pytest.raises(ZeroDivisionError),
        in_other_process(functools.partial(time.sleep, 600), ("error", "text")),
    ):
        raise ZeroDivisionError
    assert time.monotonic() - start < 600


def test_what_it_logs_is_shown(capfd):
    text = "of the other process"
    code = f"import logging; logging.getLogger('pipeline.x').warning({text!r})"
    outcome_of(functools.partial(exec, code))
    assert capfd.readouterr().err == f"kmeans-job: {text}\n"


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


# A process that starts another one, which says which it is and then sleeps.
PARENT = """
import sys
from functools import partial
from job.other_process import in_other_process
from pipeline.terminal import exit_status
from pipeline import interrupts

def main():
    code = f"import os, time; open({sys.argv[1]!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with in_other_process(partial(exec, code), ("warning", "text")) as go:
        go()

if __name__ == "__main__":
    interrupts.install()
    interrupts.at_work()
    sys.exit(interrupts.finish(exit_status(main)))
"""


@pytest.fixture
def started(tmp_path):
    """A process of PARENT in a process group of its own, and the number of the one it started."""
    (script := tmp_path / "parent.py").write_text(PARENT)
    named = tmp_path / "pid"
    process = subprocess.Popen(
        [sys.executable, script, named],
        env={**os.environ, "PYTHONPATH": str(jobs.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with jobs.ended([process]):
        assert wait_until(lambda: named.exists() and named.read_text())
        yield process, int(named.read_text())


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, 130, "kmeans-job: interrupted\n"),
        (
            signal.SIGTERM,
            143,
            "kmeans-job: error: SIGTERM: ended before it was done; run the same command again to "
            "resume\n",
        ),
    ],
)
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["to both", "to one"])
def test_signals_end_both_processes_with_one_line(started, send, number, status, line):
    process, other = started
    send(process.pid, number)
    assert process.communicate(timeout=PATIENCE_SECONDS)[1] == line
    assert process.returncode == status
    assert not is_running(other)


def test_the_other_process_ends_when_this_one_is_killed(started):
    process, other = started
    assert is_running(other)
    process.kill()
    assert wait_until(lambda: not is_running(other))

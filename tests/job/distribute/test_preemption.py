"""SIGTERM in a real process: the block ends, or the process does."""

import os
import signal
import subprocess
import sys
import threading

import jobs
import pytest

from job.distribute.preemption import on_sigterm, unguarded


def handlers() -> tuple:
    return signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)


def test_the_block_is_asked_and_ends_by_itself():
    before, asked = handlers(), threading.Event()
    with on_sigterm(asked.set, pytest.fail):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wait(60)
    assert handlers() == before


def test_without_a_signal_nothing_is_asked():
    before = handlers()
    with on_sigterm(pytest.fail, pytest.fail):
        signal.raise_signal(signal.SIGWINCH)  # one that is ignored
    assert handlers() == before


def test_handlers_are_as_before_after_an_error():
    before = handlers()
    with pytest.raises(ZeroDivisionError), on_sigterm(pytest.fail, pytest.fail):
        raise ZeroDivisionError
    assert handlers() == before


# A block that no handler in Python can end, like a pass of TensorFlow: it waits for itself.
BLOCK = """
import ctypes, os, signal, sys
from job.distribute.preemption import on_sigterm
from pipeline import interrupts

def say(text):
    return lambda: print(text, flush=True)

interrupts.install()
interrupts.at_work()
grace = dict.fromkeys([signal.SIGTERM, signal.SIGINT], float(sys.argv[1]))
with on_sigterm(say("asked"), say("saved"), grace):
    send = "".join(f"sleep 0.2; kill -{number} {os.getpid()};" for number in sys.argv[2:])
    os.posix_spawn("/bin/sh", ["sh", "-c", send], os.environ)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
"""
TERM, INT = int(signal.SIGTERM), int(signal.SIGINT)
TERMINATED = "kmeans-job: error: SIGTERM: ended amid a pass; run the same command again to resume"


@pytest.mark.parametrize(
    ("grace", "signals", "status", "printed", "line"),
    [
        (0.1, [TERM], 143, "asked\nsaved\n", TERMINATED),
        (0.1, [INT], 130, "saved\n", "kmeans-job: interrupted"),
        (600, [TERM, TERM], 143, "asked\nsaved\n", TERMINATED),
        (600, [INT, INT], 130, "saved\n", "kmeans-job: interrupted"),
    ],
)
def test_a_block_that_does_not_end_is_ended_with_its_state_saved(
    grace, signals, status, printed, line
):
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, str(grace), *map(str, signals)],
        env={**os.environ, "PYTHONPATH": str(jobs.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, f"{line}\n")


@pytest.mark.parametrize("guard", [on_sigterm, unguarded])
def test_signals_stay_as_they_are_elsewhere(guard):
    """In a thread that is not the main one, and outside of the command line."""
    before, found = handlers(), []

    def enter() -> None:
        with guard(pytest.fail, pytest.fail):
            found.append(signal.getsignal(signal.SIGTERM))

    if guard is unguarded:
        enter()
    else:
        (thread := threading.Thread(target=enter)).start()
        thread.join()
    assert found == [before[0]]

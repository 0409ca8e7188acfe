"""What a machine does to a job: it is taken away, stops, fills up; the job says so and resumes."""

import os
import resource
import shutil
import signal
import subprocess
import time

import jobs
import pytest

OPTIONS = ("--k", 10, "--restarts", 400, "--seed", 1)  # far longer than any test waits
SHORT = ("--k", 10, "--restarts", 3, "--seed", 1)
GONE_SECONDS, TERM_SECONDS = 60.0, 10.0


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return jobs.shard(tmp_path_factory.mktemp("faults") / "shards", 4)


def wait_for_iterations(output, process, count=20):
    assert jobs.wait_until(lambda: jobs.num_iterations(output) >= count, process), jobs.errors_of(
        output
    )


def states(output):
    return sorted(path.name for path in output.glob("checkpoint/state-*"))


def test_sigterm_leaves_a_checkpoint_and_a_status_of_its_own(digits, tmp_path):
    output = tmp_path / "out"
    with jobs.ended([jobs.start(output, "--shards", digits, *OPTIONS)]) as (process,):
        wait_for_iterations(output, process)
        assert not states(output)  # no minute has gone by
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert jobs.wait(process) == [143]
    assert time.monotonic() - sent < TERM_SECONDS
    assert states(output)
    assert "SIGTERM: ended after restart" in jobs.last_line(output)
    done = jobs.num_iterations(output)
    with jobs.ended([jobs.start(output, "--shards", digits, *OPTIONS)]) as (process,):
        wait_for_iterations(output, process, done + 5)  # it went on from there


def test_sigterm_to_one_worker_ends_both_at_the_same_iteration(digits, tmp_path):
    output = tmp_path / "out"
    with jobs.ended(jobs.start_workers(output, 2, "--shards", digits, *OPTIONS)) as processes:
        wait_for_iterations(output, processes[0])
        processes[1].send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert jobs.wait(*processes) == [143, 143]
    assert time.monotonic() - sent < TERM_SECONDS
    assert states(output)
    assert jobs.last_line(output, 0) == jobs.last_line(output, 1)


@pytest.mark.parametrize(
    ("victim", "signal_number"),
    [
        pytest.param(1, signal.SIGKILL, id="killed"),
        pytest.param(0, signal.SIGKILL, id="chief killed", marks=pytest.mark.slow),
        pytest.param(1, signal.SIGSTOP, id="stopped", marks=pytest.mark.slow),
        pytest.param(0, signal.SIGSTOP, id="chief stopped", marks=pytest.mark.slow),
    ],
)
def test_a_dead_peer_ends_the_others_and_is_named(digits, tmp_path, victim, signal_number):
    output = tmp_path / "out"
    options = ("--shards", digits, *OPTIONS, "--checkpoint-seconds", 0.2)
    with jobs.ended(jobs.start_workers(output, 3, *options)) as processes:
        wait_for_iterations(output, processes[0])
        processes[victim].send_signal(signal_number)
        sent = time.monotonic()
        others = [number for number in range(3) if number != victim]
        assert jobs.wait(*(processes[number] for number in others)) == [1, 1]
        assert time.monotonic() - sent < GONE_SECONDS
    for number in others:
        assert f"error: worker {victim} (127.0.0.1:" in jobs.last_line(output, number)
    assert states(output)


@pytest.mark.slow
@pytest.mark.parametrize("victims", [[1], [0], [0, 1]])
def test_killed_workers_resume_with_the_same_bits(digits, tmp_path, victims):
    alone, output = tmp_path / "alone", tmp_path / "out"
    options = ("--shards", digits, *SHORT, "--checkpoint-seconds", 0)
    assert jobs.fit(alone, *options) == 0
    with jobs.ended(jobs.start_workers(output, 2, *options)) as processes:
        wait_for_iterations(output, processes[0], 8)
        for victim in victims:
            processes[victim].kill()
        jobs.wait(*processes)
    jobs.check_whole(output)
    with jobs.ended(jobs.start_workers(output, 2, *options)) as processes:
        assert jobs.wait(*processes) == [0, 0]
    assert jobs.outcome(output) == jobs.outcome(alone)


def test_an_absent_peer_is_named_after_the_timeout(digits, tmp_path):
    output = tmp_path / "out"
    options = ("--shards", digits, *SHORT, "--start-timeout-seconds", 2)
    with jobs.ended(jobs.start_workers(output, 2, *options, absent=[1])) as processes:
        assert jobs.wait(*processes) == [1]
    assert "error: worker 1 (127.0.0.1:" in jobs.last_line(output)
    assert "not there after 2 s" in jobs.last_line(output)


def test_a_full_disk_is_named_and_the_state_before_it_stays(digits, tmp_path):
    output = tmp_path / "out"
    given = ("--shards", digits, "--k", 200, "--seed", 1, "--checkpoint-seconds", 0)
    command = jobs.start(output, *given)
    with jobs.ended([command]):
        wait_for_iterations(output, command, 1)
    assert states(output)
    # As a full disk would: no file may grow beyond what the history needs.
    limit = 20_000
    limited = subprocess.Popen(
        [*map(str, command.args)],
        cwd=jobs.ROOT,
        stderr=jobs.errors_path(output).open("wb"),
        preexec_fn=lambda: (
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        ),
    )
    with jobs.ended([limited]):
        assert jobs.wait(limited) == [2]
    assert f"{output}/checkpoint/state-" in jobs.last_line(output)
    assert "File too large" in jobs.last_line(output)
    assert states(output)
    assert not list(output.rglob("*.tmp"))
    assert jobs.fit(output, *given) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_output_is_named(digits, tmp_path):
    output = tmp_path / "closed" / "out"
    output.parent.mkdir(mode=0o500)
    assert jobs.fit(output, "--shards", digits, *SHORT) == 2
    assert str(output) in jobs.last_line(output)


def test_an_output_that_is_no_folder_is_named(digits, tmp_path):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "out"
    process = jobs.start(tmp_path / "out", "--shards", digits, *SHORT, "--output", output)
    with jobs.ended([process]):
        assert jobs.wait(process) == [2]
    assert str(tmp_path / "file") in jobs.last_line(tmp_path / "out")


def test_a_shard_that_is_gone_in_iteration_five(digits, tmp_path):
    shards, output = tmp_path / "shards", tmp_path / "out"
    shutil.copytree(digits, shards)
    options = ("--shards", shards, *OPTIONS, "--memory", "stream")
    with jobs.ended([jobs.start(output, *options)]) as (process,):
        wait_for_iterations(output, process, 5)
        (lost,) = shards.glob("images-00002-*")
        lost.rename(tmp_path / "away")
        assert jobs.wait(process) == [2]
    assert f"{lost}: cannot read: No such file" in jobs.last_line(output)
    assert states(output)
    done = jobs.num_iterations(output)
    (tmp_path / "away").rename(lost)
    with jobs.ended([jobs.start(output, *options)]) as (process,):
        wait_for_iterations(output, process, done + 1)

"""SIGKILL at any moment, then the same command again: the same bits, and nothing half-written."""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jobs
import pytest

SEED = 20240607
# Many rounds of seeding and iterations, each of them written.
OPTIONS = ("--k", 25, "--restarts", 3, "--seed", 2, "--checkpoint-seconds", 0)
SLOW_KILLS, CHAINS = 36, 3


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return jobs.shard(tmp_path_factory.mktemp("kill") / "shards", 6)


@pytest.fixture(scope="module")
def whole(digits) -> dict[str, str]:
    """What an uninterrupted run ends with."""
    output = digits.with_name("whole")
    assert jobs.fit(output, "--shards", digits, *OPTIONS) == 0
    return jobs.outcome(output)


def progress_of(output: Path) -> tuple:
    """Changes with everything that a run writes."""
    folders = ("checkpoint", "assignments", ".")
    names = [sorted(p.name for p in (output / f).glob("*")) for f in folders]
    return tuple(map(tuple, names)), jobs.num_iterations(output)


def kill_after(process, output: Path, changes: int, delay_seconds: float) -> bool:
    """Kills the process when it has written `changes` times; False if it ended before."""
    seen, last = 0, progress_of(output)

    def enough() -> bool:
        nonlocal seen, last
        now = progress_of(output)
        seen, last = seen + (now != last), now
        return seen >= changes

    if not jobs.wait_until(enough, process):
        return False
    time.sleep(delay_seconds)
    process.kill()
    return process.wait() != 0


def chain(digits: Path, whole: dict[str, str], output: Path, kills: int, rng) -> None:
    """Kills runs at `kills` random points; each result that comes about must be that of `whole`."""
    number = 0
    while kills > 0:
        number += 1
        folder = output.with_name(f"{output.name}-{number}")
        while not (folder / "metrics.json").exists():
            # Small and large numbers alike: start, seeding, iterations, assignments, the end.
            changes, delay = int(1.25 ** rng.uniform(0, 24)), rng.uniform(0, 0.02)
            process = jobs.start(folder, "--shards", digits, *OPTIONS)
            with jobs.ended([process]):
                killed = kill_after(process, folder, changes if kills > 0 else 10**9, delay)
            assert killed or process.returncode == 0, jobs.errors_of(folder)
            kills -= killed
            jobs.check_whole(folder)
        assert jobs.outcome(folder) == whole, folder


def test_killed_at_a_few_random_points(digits, whole, tmp_path):
    sys.stdout.write(f"seed {SEED}\n")
    chain(digits, whole, tmp_path / "few", 3, random.Random(SEED))


@pytest.mark.slow
def test_killed_at_many_random_points(digits, whole, tmp_path):
    seeds = [SEED + 1 + number for number in range(CHAINS)]
    sys.stdout.write(f"seeds {seeds}\n")
    with ThreadPoolExecutor(CHAINS) as pool:
        each = [
            pool.submit(
                chain,
                digits,
                whole,
                tmp_path / str(seed),
                SLOW_KILLS // CHAINS,
                random.Random(seed),
            )
            for seed in seeds
        ]
    for done in each:
        done.result()


def in_seeding(output: Path) -> bool:
    return any(output.glob("checkpoint/state-*")) and not jobs.num_iterations(output)


def at_iteration(number: int):
    return lambda output: jobs.num_iterations(output) >= number


def writing(folder: str):
    return lambda output: any(output.glob(f"{folder}/*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(in_seeding, id="seeding"),
        pytest.param(at_iteration(1), id="first iteration"),
        pytest.param(at_iteration(30), id="middle"),
        pytest.param(lambda output: (output / "assignments").exists(), id="after the last"),
        pytest.param(writing("checkpoint"), id="amid a checkpoint"),
        pytest.param(writing("assignments"), id="amid assignments"),
        pytest.param(lambda output: (output / "report.html").exists(), id="before metrics.json"),
    ],
)
def test_killed_at_a_chosen_moment(digits, whole, tmp_path, moment):
    output = tmp_path / "out"
    process = jobs.start(output, "--shards", digits, *OPTIONS)
    with jobs.ended([process]):
        assert jobs.wait_until(lambda: moment(output), process)
    jobs.check_whole(output)
    if not (output / "metrics.json").exists():
        assert jobs.fit(output, "--shards", digits, *OPTIONS) == 0
    assert jobs.outcome(output) == whole

"""Workers that die and are started again by a scheduler: the fit goes on, to the same bits."""

import jobs
import pytest
import scheduler

# Many iterations, each of them a state to go on from; `lloyd` is traced fastest.
OPTIONS = (
    *("--k", 40, "--init", "random", "--seed", 2, "--restarts", 8),
    *("--checkpoint-seconds", 0, "--algorithm", "lloyd"),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return jobs.shard(tmp_path_factory.mktemp("restarts") / "shards", 8)


@pytest.fixture(scope="module")
def alone(digits):
    """What one worker ends with."""
    output = digits.with_name("alone")
    assert jobs.fit(output, "--shards", digits, *OPTIONS) == 0
    return jobs.outcome(output)


def test_workers_are_killed_and_their_number_changes(digits, alone, tmp_path):
    output, given = tmp_path / "out", ("--shards", digits, *OPTIONS)

    def run(count, plan):
        disturb = scheduler.killing(plan, lambda: jobs.num_iterations(output))
        return scheduler.keep_running(scheduler.workers(output, count, *given), count, disturb)

    # Three, of which two are killed, one of them number 0; then all go away.
    statuses, starts = run(3, [(5, 1), (5, 0), (5, None)])
    assert statuses[0] == -9
    assert 0 not in statuses
    assert min(starts) >= 3  # each ends when one is lost, and is started again
    done = jobs.num_iterations(output)
    assert 0 not in run(2, [(5, None)])[0]
    assert jobs.num_iterations(output) > done
    assert run(3, []) == ([0] * 3, [1] * 3)
    assert jobs.outcome(output) == alone
    # A worker that was lost at the very end is started when the others are gone.
    start = scheduler.workers(output, 3, *given, "--start-timeout-seconds", 0)
    with jobs.ended([start(1)]) as processes:
        assert jobs.wait(*processes) == [0]


def test_eight_workers(digits, alone, tmp_path):
    start = scheduler.workers(tmp_path / "out", 8, "--shards", digits, *OPTIONS)
    assert scheduler.keep_running(start, 8) == ([0] * 8, [1] * 8)
    assert jobs.outcome(tmp_path / "out") == alone

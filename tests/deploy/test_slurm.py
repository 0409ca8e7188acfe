"""The script for Slurm, run with a stand-in for `srun`."""

import os
import subprocess
import sys

import jobs
import pytest

SCRIPT = jobs.ROOT / "deploy" / "slurm" / "kmeans-job.sbatch"
# Ends with the statuses of a file, one after the other, and keeps what it was asked to run.
SRUN_THAT_ENDS = """#!/bin/bash
echo "$@" >> "$FOLDER/asked"
status=$(head -n 1 "$FOLDER/statuses")
sed -i 1d "$FOLDER/statuses"
exit "$status"
"""
# Starts two tasks on one node, as Slurm does on one or two, and ends all when one fails. The first
# time it kills task 1 when there is a state to go on from.
SRUN_THAT_STARTS = """#!/bin/bash
shift # --kill-on-bad-exit=1
step=$(cat "$FOLDER/step")
tasks=()
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 SLURM_STEP_ID=$step \\
    SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2 "$@" &
  tasks+=($!)
done
if [ "$step" = 0 ]; then
  until compgen -G "$OUTPUT/checkpoint/state-*" > /dev/null || ! kill -0 "${tasks[1]}"; do
    sleep 0.1
  done
  kill -KILL "${tasks[1]}"
fi
echo 1 > "$FOLDER/step"
status=0
for task in "${tasks[@]}"; do
  wait "$task"
  ended=$?
  [ $ended -gt $status ] && status=$ended
done
exit $status
"""


def sbatch(folder, programs: dict[str, str], *options, **variables) -> subprocess.CompletedProcess:
    """Runs the script as `sbatch` does on the first node, with `programs` in the path."""
    (binaries := folder / "bin").mkdir()
    for name, text in programs.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TF_CONFIG"},
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "FOLDER": str(folder),
        "SLURM_JOB_ID": "4711",
    }
    return subprocess.run(
        ["bash", SCRIPT, *map(str, options)],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=2 * jobs.PATIENCE_SECONDS,
    )


@pytest.mark.parametrize(
    ("statuses", "ended", "started"),
    [
        ([0], 0, 1),
        ([2], 2, 1),  # the input or an option is at fault
        ([137, 1, 0], 0, 3),
        ([1] * 30, 1, 21),
    ],
)
def test_a_fit_that_lost_a_worker_is_started_again(tmp_path, statuses, ended, started):
    (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
    done = sbatch(tmp_path, {"srun": SRUN_THAT_ENDS}, "--seed", 3)
    assert done.returncode == ended, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == started
    assert asked[0].startswith("--kill-on-bad-exit=1 kmeans-job fit --shards ")
    assert asked[0].endswith(" --seed 3")
    assert done.stderr.count("started again") == started - 1


def test_a_job_whose_time_is_up_is_queued_again(tmp_path):
    (tmp_path / "statuses").write_text("143\n")
    requeue = f'#!/bin/sh\necho "$@" > "{tmp_path}/scontrol"\n'
    done = sbatch(tmp_path, {"srun": SRUN_THAT_ENDS, "scontrol": requeue})
    assert done.returncode == 143
    assert (tmp_path / "scontrol").read_text() == "requeue 4711\n"


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(tmp_path):
    shards = jobs.shard(tmp_path / "shards", 2)
    options = ("--shards", shards, "--k", 10, "--restarts", 20, "--checkpoint-seconds", 0)
    assert jobs.fit(tmp_path / "alone", *options) == 0
    (tmp_path / "step").write_text("0")
    command = f'#!/bin/sh\nexec "{sys.executable}" -m job "$@"\n'
    programs = {"srun": SRUN_THAT_STARTS, "kmeans-job": command}
    given = (*options, "--output", tmp_path / "out", "--quiet")
    variables = {"OUTPUT": str(tmp_path / "out"), "PYTHONPATH": str(jobs.ROOT)}
    done = sbatch(tmp_path, programs, *given, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("started again") == 1
    assert "worker 1 (localhost:" in done.stderr
    assert jobs.outcome(tmp_path / "out") == jobs.outcome(tmp_path / "alone")

"""Who the workers are, by tables of environments."""

import json

import pytest

from job.distribute import cluster
from job.distribute.workers import refuse_idle
from pipeline.errors import UserError

TASK = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
TF_CONFIG = {"TF_CONFIG": json.dumps(TASK)}
ALONE = {"TF_CONFIG": json.dumps({"cluster": {"chief": ["a:1"]}, "task": {"type": "chief"}})}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "1",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "n[08-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
}
POD = {
    "JOB_COMPLETION_INDEX": "3",
    "HOSTNAME": "fit-3",
    "KMEANS_JOB_WORKERS": "4",
    "KMEANS_JOB_SERVICE": "kmeans",
}
# What a batch script has before `srun`, in Slurm's own words.
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "3",
    "SLURM_JOB_NODELIST": "n[08-10]",
    "SLURM_TASKS_PER_NODE": "1(x3)",
}


@pytest.mark.parametrize(
    ("name", "environment", "source", "number"),
    [
        ("auto", {}, None, None),
        ("tf-config", {}, None, None),
        ("auto", TF_CONFIG, "TF_CONFIG", 1),
        ("auto", SLURM, "SLURM_STEP_NODELIST", 2),
        ("auto", POD, "KMEANS_JOB_WORKERS", 3),
        ("auto", POD | SLURM | TF_CONFIG, "TF_CONFIG", 1),
        ("auto", POD | SLURM, "SLURM_STEP_NODELIST", 2),
        ("auto", POD | SLURM | ALONE, None, None),
        ("slurm", POD | SLURM | TF_CONFIG, "SLURM_STEP_NODELIST", 2),
        ("kubernetes", POD | SLURM | TF_CONFIG, "KMEANS_JOB_WORKERS", 3),
        ("auto", BATCH_SCRIPT, None, None),
        ("auto", POD | {"KMEANS_JOB_WORKERS": "1", "JOB_COMPLETION_INDEX": "0"}, None, None),
        # A pod of somebody else's Job, each of whose pods does a fit of its own.
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, None, None),
        ("slurm", SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None, None),
        ("slurm", BATCH_SCRIPT, "SLURM_JOB_NODELIST", 0),
    ],
)
def test_the_first_source_that_is_there_is_taken(name, environment, source, number):
    group = cluster.discover(name, environment)
    assert (group and group.source, group and group.number) == (source, number)


def test_a_source_that_is_not_there_says_what_is_missing():
    with pytest.raises(UserError, match=r"SLURM_PROCID: not set, .* start with srun"):
        cluster.discover("slurm", TF_CONFIG)
    with pytest.raises(UserError, match=r"KMEANS_JOB_WORKERS: not set, .* from deploy/kubernetes/"):
        cluster.discover("kubernetes", TF_CONFIG)


@pytest.mark.parametrize(
    ("environment", "others"),
    [({}, False), (ALONE, False), (TF_CONFIG, True), (ALONE | SLURM, True), (POD, True)],
)
def test_other_workers_by_any_source(environment, others):
    assert cluster.has_others(environment) == others
    assert not cluster.has_others({"TF_CONFIG": "{", "SLURM_PROCID": "x"})


def test_messages_name_the_source():
    with pytest.raises(UserError, match=r"^SLURM_STEP_NODELIST: 3 workers, but only 2 shards"):
        refuse_idle(cluster.discover("auto", SLURM), 2)

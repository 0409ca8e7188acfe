"""The workers of a Slurm step: those of TensorFlow's resolver."""

import pytest
import tensorflow as tf

from job.distribute import slurm
from pipeline.errors import UserError

NODES = "SLURM_STEP_NODELIST"


def step(nodes: str, per_node: str, count: int, rank: int = 0, **others: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "2",
        "SLURM_PROCID": f"{rank}",
        "SLURM_STEP_NUM_TASKS": f"{count}",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        **others,
    }


@pytest.mark.parametrize(
    ("nodes", "per_node", "count"),
    [
        ("n1,n2", "1(x2)", 2),
        ("n[1-3],login,m[08-11,15]", "1(x9)", 9),
        ("gpu-a[3-4,6]", "2(x2),1", 5),
        ("node", "8", 8),
        ("10.0.0.[1-2]", "1(x2)", 2),
    ],
)
def test_addresses_are_those_of_tensorflow(monkeypatch, nodes, per_node, count):
    environment = step(nodes, per_node, count, rank=count - 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=slurm.first_port(environment),
        gpus_per_node=8,
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    group = slurm.workers_of(environment)
    assert group is not None
    # It sorts hosts by name, n10 before n2, though SLURM_PROCID counts them as they are listed.
    assert sorted(group.jobs["worker"]) == resolver.cluster_spec().as_dict()["worker"]
    assert (group.job, group.index) == resolver.get_task_info()


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("n[099-101]x", ["n099x", "n100x", "n101x"]),
        ("a", ["a"]),
    ],
)
def test_nodes(text, nodes):
    assert slurm.expand_nodes(NODES, text) == nodes


def test_ports_of_jobs_and_steps_differ():
    jobs = [{"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(n)} for job in (7, 8) for n in (0, 1)]
    ports = [slurm.first_port(environment) for environment in jobs]
    assert len(set(ports)) == 4
    assert slurm.first_port({}) == 20_000
    assert 20_000 <= slurm.first_port({"SLURM_JOB_ID": "123456789"}) < 32_000


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_PROCID": "0"}, "SLURM_STEP_NUM_TASKS: not set, .* start with srun"),
        (step("n1", "2", 2, SLURM_PROCID="x"), "SLURM_PROCID x: no number; start with srun"),
        (step("n[1-", "2", 2), r"SLURM_STEP_NODELIST n\[1-: no list of nodes"),
        (step("n1", "two", 2), "SLURM_STEP_TASKS_PER_NODE two: no numbers of tasks"),
        (step("n1,n2", "2", 2), "2 nodes do not fit SLURM_STEP_TASKS_PER_NODE 2, 2 tasks"),
        (step("n1,n2", "1(x2)", 2, rank=2), "2 tasks and SLURM_PROCID 2; start the command with"),
        (
            step("n1,n2", "2(x2)", 4, rank=1, SLURM_NODEID="1", SLURM_LOCALID="0"),
            "SLURM_PROCID 1: is task 0 of node 1; start with srun --distribution=block",
        ),
    ],
)
def test_what_cannot_be_understood_is_named(environment, message):
    with pytest.raises(UserError, match=message):
        slurm.workers_of(environment)


def test_tasks_in_the_order_of_their_nodes():
    given = step("n1,n2", "2(x2)", 4, rank=2, SLURM_NODEID="1", SLURM_LOCALID="0")
    group = slurm.workers_of(given)
    assert group is not None
    assert group.name(2) == f"worker 2 (n2:{slurm.first_port(given)})"

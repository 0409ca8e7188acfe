"""The workers of a Slurm step: the tasks that `srun` starts, in the order of SLURM_PROCID.

Addresses are those of TensorFlow's SlurmClusterResolver: the tasks of a node listen at neighbouring
ports. It would ask for GPUs to count, and sorts nodes by name, n10 before n2, though tasks follow
the list. The first port follows from the job, so that two jobs can share a node.
"""

import re
from collections.abc import Mapping

from job.distribute.workers import WorkerGroup
from pipeline.errors import UserError

FIRST_PORT, PORTS = 20_000, 12_000  # below the ports that systems hand out to clients
JOB_PORTS, STEP_PORTS = 64, 8  # between the first ports of two jobs, and of two steps of one
NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
TASKS_PER_NODE = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
RANK = "SLURM_PROCID"


def is_step_of_several(environment: Mapping[str, str]) -> bool:
    """Tells whether `srun` has started this process as one of several tasks.

    A batch script has the variables of its job too, but runs once.
    """
    return environment.get(TASKS[0], "1") != "1"


def workers_of(environment: Mapping[str, str]) -> WorkerGroup | None:
    """Reads the workers from Slurm's variables; None where there is one task.

    Raises:
      UserError: a variable is missing or cannot be understood.
    """
    rank = _number(environment, RANK)
    count = _number(environment, *TASKS)
    if count == 1:
        return None
    nodes_name, nodes_text = _first(environment, *NODES)
    per_node_name, per_node_text = _first(environment, *TASKS_PER_NODE)
    nodes, per_node = (
        expand_nodes(nodes_name, nodes_text),
        expand_tasks(per_node_name, per_node_text),
    )
    places = [(node, n) for node, tasks in enumerate(per_node) for n in range(tasks)]
    if len(nodes) != len(per_node) or len(places) != count or rank >= count:
        raise UserError(
            f"{nodes_name} {nodes_text}: {len(nodes)} nodes do not fit {per_node_name} "
            f"{per_node_text}, {count} tasks and {RANK} {rank}; start the command with srun"
        )
    _check_order(environment, rank, places)
    port = first_port(environment)
    addresses = [f"{nodes[node]}:{port + n}" for node, n in places]
    return WorkerGroup(
        {"worker": addresses},
        "worker",
        rank,
        source=nodes_name,
        remedy="see in the job's output why it does not run, and that nodes reach each other",
    )


def first_port(environment: Mapping[str, str]) -> int:
    """Returns the port of the first task of each node, which all tasks know."""
    job, step = (int(environment.get(f"SLURM_{name}_ID") or 0) for name in ("JOB", "STEP"))
    return FIRST_PORT + (JOB_PORTS * job + STEP_PORTS * step) % PORTS


def expand_nodes(name: str, text: str) -> list[str]:
    """Returns the nodes of a list as Slurm writes it: `n[01-03,7],login` has five.

    Raises:
      UserError: it is no such list; `name` is the variable that has it.
    """
    part = r"[^,\[\]]*(?:\[[\d,-]+\][^,\[\]]*)*"
    if not text or not re.fullmatch(rf"{part}(?:,{part})*", text):
        raise UserError(f"{name} {text}: no list of nodes, as in n[01-03,7]; start with srun")
    return [node for found in re.findall(rf"{part}", text) if found for node in _of_part(found)]


def _of_part(text: str) -> list[str]:
    """Returns the nodes of one part of a list, `n[01-03,7]`, in which several ranges may stand."""
    found = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", text)
    if found is None:
        return [text]
    before, ranges, after = found.groups()
    numbers = []
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        numbers += [f"{n:0{len(first)}d}" for n in range(int(first), int(last or first) + 1)]
    return [before + number + rest for number in numbers for rest in _of_part(after)]


def expand_tasks(name: str, text: str) -> list[int]:
    """Returns the number of tasks on each node, which Slurm writes as `2(x3),1`.

    Raises:
      UserError: it is no such list; `name` is the variable that has it.
    """
    if not re.fullmatch(r"\d+(\(x\d+\))?(,\d+(\(x\d+\))?)*", text):
        raise UserError(f"{name} {text}: no numbers of tasks, as in 2(x3),1; start with srun")
    return [
        int(tasks)
        for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
        for _ in range(int(times or 1))
    ]


def _check_order(environment: Mapping[str, str], rank: int, places: list[tuple[int, int]]) -> None:
    """Raises UserError unless the tasks are dealt out node by node, as their addresses assume."""
    node, local = environment.get("SLURM_NODEID"), environment.get("SLURM_LOCALID")
    if node is not None and local is not None and (node, local) != tuple(map(str, places[rank])):
        raise UserError(
            f"{RANK} {rank}: is task {local} of node {node}; start with srun --distribution=block, "
            "or with one task a node"
        )


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Returns the first variable of `names` that is set, and its value."""
    for name in names:
        if environment.get(name):
            return name, environment[name]
    raise UserError(f"{names[0]}: not set, so this is no task of Slurm; start with srun")


def _number(environment: Mapping[str, str], *names: str) -> int:
    name, text = _first(environment, *names)
    if not text.isdecimal():
        raise UserError(f"{name} {text}: no number; start with srun")
    return int(text)

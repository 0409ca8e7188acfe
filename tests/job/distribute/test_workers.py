"""Several workers, as processes on loopback: the bits of one."""

import json
import os
import subprocess
import sys

import jobs
import numpy as np
import pytest

from job.distribute import workers
from job.distribute.workers import WorkerGroup
from pipeline.errors import JobError, UserError

OPTIONS = ("--k", 40, "--seed", 2, "--init", "random", "--algorithm", "hamerly")
MNIST = jobs.ROOT.parent / "shared" / "data" / "mnist.npz"


def tf_config(kind="worker", index=0, **jobs_addresses) -> str:
    return json.dumps({"cluster": jobs_addresses, "task": {"type": kind, "index": index}})


def test_the_chief_comes_first():
    cluster = workers.parse(tf_config(index=1, worker=["b:1", "c:2"], chief=["a:3"]))
    assert cluster.tasks == [("chief", 0), ("worker", 0), ("worker", 1)]
    assert (cluster.size, cluster.number) == (3, 2)
    assert cluster.name(0) == "worker 0 (a:3)"


@pytest.mark.parametrize("text", [None, "", "{}", tf_config(worker=["a:1"])])
def test_alone(text):
    assert workers.parse(text) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "TF_CONFIG"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "task"),
        (tf_config(index=2, worker=["a:1", "b:1"]), "worker 2"),
        (tf_config(worker=["a:1"], ps=["b:1"]), "'ps'"),
    ],
)
def test_a_wrong_tf_config_is_refused(text, named):
    with pytest.raises(UserError, match=named):
        workers.parse(text)


def test_more_workers_than_shards_are_refused():
    cluster = WorkerGroup({"worker": ["a:1", "b:1", "c:1"]}, "worker", 0)
    workers.refuse_idle(cluster, 3)
    workers.refuse_idle(None, 1)
    with pytest.raises(UserError, match="--num-shards 3"):
        workers.refuse_idle(cluster, 2)


def test_an_absent_peer_is_named():
    mine, other = jobs.free_ports(2)
    cluster = WorkerGroup({"worker": [f"127.0.0.1:{mine}", f"127.0.0.1:{other}"]}, "worker", 0)
    with pytest.raises(JobError, match=f"worker 1 .127.0.0.1:{other}.: not there after 0.5 s"):
        workers.wait_for_peers(cluster, 0.5)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("reset ... remote target /job:worker/replica:0/task:0 while", 1),
        ("target /job:chief/replica:0/task:0: aborted by /job:worker/replica:0/task:1 x", 2),
        ("Deadline Exceeded RPC: /tensorflow.CoordinationService/Heartbeat", 0),
    ],
)
def test_a_lost_worker_is_named(text, number):
    jobs_addresses = {"chief": ["a:1"], "worker": ["b:1", "c:1", "d:1"]}
    cluster = WorkerGroup(jobs_addresses, "worker", 2)
    assert str(workers.lost(cluster, text)).startswith(cluster.name(number))


# Of what each of two workers sums up, and whether all sums are those of both, to the bit.
SUMS = """
import json, os, sys
import numpy as np
from job.distribute import workers
from job.distribute.replicas import local_replicas
group = workers.parse(os.environ["TF_CONFIG"])
workers.wait_for_peers(group, 60)
replicas = local_replicas(1, group)
def arrays(worker):
    rng = np.random.default_rng(worker)
    whole = rng.integers(-(2**29), 2**29, (700, 784)).astype(float)
    return [whole, 16 * whole, rng.random((700, 784)), np.array(worker + 0.5)]
wanted = [a + b for a, b in zip(arrays(0), arrays(1))]
travelled, run = [], replicas._sum_over_workers
replicas._sum_over_workers = lambda packed: (travelled.append(packed.dtype.name), run(packed))[1]
found = replicas.all_reduce(arrays(group.number))
same = [bool((a == b).all()) and a.dtype == b.dtype for a, b in zip(found, wanted)]
print(json.dumps([same, travelled]))
"""


def test_two_workers_sum_exactly_in_fewer_bytes():
    addresses = [f"127.0.0.1:{port}" for port in jobs.free_ports(2)]
    workers_of_both = [
        subprocess.Popen(
            [sys.executable, "-c", SUMS],
            cwd=jobs.ROOT,
            env={**os.environ, "TF_CONFIG": tf_config(index=index, worker=addresses)},
            stdout=subprocess.PIPE,
        )
        for index in range(2)
    ]
    with jobs.ended(workers_of_both) as processes:
        said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert said == [[[True] * 4, ["float64", "int32", "float64"]]] * 2


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return jobs.shard(tmp_path_factory.mktemp("workers") / "shards", 5)


@pytest.fixture(scope="module")
def alone(digits):
    """What one worker with one replica ends with."""
    output = digits.with_name("alone")
    assert jobs.fit(output, "--shards", digits, *OPTIONS) == 0
    return jobs.outcome(output)


def fit_together(output, count, *options):
    with jobs.ended(jobs.start_workers(output, count, *options)) as processes:
        statuses = jobs.wait(*processes)
    assert statuses == [0] * count, [jobs.errors_of(output, number) for number in range(count)]
    return jobs.outcome(output)


@pytest.mark.parametrize(
    ("count", "replicas", "memory"),
    [(2, 2, "stream"), pytest.param(3, 1, "resident", marks=pytest.mark.slow)],
)
def test_workers_end_with_the_bits_of_one(
    digits, alone, tmp_path, monkeypatch, count, replicas, memory
):
    # Workers find each other where a proxy is the way to all others.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    given = ("--replicas", replicas, "--memory", memory, "--shards", digits)
    assert fit_together(tmp_path / "out", count, *given, *OPTIONS) == alone
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["workers"], metrics["replicas"]) == (count, replicas)


def test_seeding_and_empty_clusters_go_over_workers(digits, tmp_path):
    options = ("--shards", digits, "--k", 30, "--init", tmp_path / "far.npy", "--max-iterations", 3)
    np.save(tmp_path / "far.npy", np.repeat(np.eye(2, 64), 15, axis=0))  # most clusters are empty
    assert jobs.fit(tmp_path / "one", *options) == 0
    together = fit_together(tmp_path / "two", 2, *options)
    assert together == jobs.outcome(tmp_path / "one")


def test_workers_that_were_asked_for_different_things_say_so(digits, tmp_path):
    output = tmp_path / "out"
    ports = [f"127.0.0.1:{port}" for port in jobs.free_ports(2)]
    processes = [
        jobs.start(
            output,
            *("--shards", digits, "--k", 10, "--seed", index),
            number=index,
            TF_CONFIG=tf_config(index=index, worker=ports),
        )
        for index in range(2)
    ]
    with jobs.ended(processes):
        assert jobs.wait(*processes) == [2, 2]
    for number in range(2):
        assert f"worker 1 ({ports[1]}) has another value of --seed" in jobs.errors_of(
            output, number
        )


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    if not MNIST.exists():
        pytest.skip(f"{MNIST} is not there")
    return jobs.shard(tmp_path_factory.mktemp("mnist") / "shards", 4, f"{MNIST}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "together"),  # workers, replicas of each, memory
    [
        (10, [(2, 1, "resident"), (3, 1, "stream")]),
        (100, [(2, 2, "stream"), (3, 2, "resident")]),
    ],
    ids=["10", "100"],
)
def test_mnist_has_one_answer(mnist, tmp_path, k, together):
    # As many iterations as it takes to see differences, if there were any.
    options = ("--shards", mnist, "--k", k, "--algorithm", "hamerly", "--max-iterations", 12)
    assert jobs.fit(tmp_path / "alone", *options) == 0
    wanted = jobs.outcome(tmp_path / "alone")
    for replicas, memory in [(1, "stream"), (2, "resident"), (2, "stream")]:
        output = tmp_path / f"1-{replicas}-{memory}"
        assert jobs.fit(output, *options, "--replicas", replicas, "--memory", memory) == 0
        assert jobs.outcome(output) == wanted, output
    for count, replicas, memory in together:
        given = ("--replicas", replicas, "--memory", memory)
        found = fit_together(tmp_path / f"{count}-{replicas}-{memory}", count, *options, *given)
        assert found == wanted, (count, replicas, memory)

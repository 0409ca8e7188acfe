"""The request of a fit on Vertex AI, as `submit --dry-run` shows it."""

import json

import cloud_doubles
import pytest
from google.cloud import aiplatform_v1

from job.cli import build_parser
from job.cloud import services
from job.distribute import workers


def spec(printed: dict) -> aiplatform_v1.CustomJobSpec:
    """The CustomJobSpec in what --dry-run printed, which must survive the provider's own type."""
    request = aiplatform_v1.CreateCustomJobRequest.from_json(json.dumps(printed["vertex"]))
    assert services.as_json(request) == printed["vertex"]
    assert request.parent == f"projects/{cloud_doubles.PROJECT}/locations/{cloud_doubles.REGION}"
    return request.custom_job.job_spec


@pytest.mark.parametrize(("count", "replicas"), [(1, [1]), (2, [1, 1]), (8, [1, 7])])
def test_pool_0_is_the_chief_and_pool_1_the_other_workers(dry_run, count, replicas):
    pools = spec(dry_run("--workers", str(count))).worker_pool_specs
    assert [pool.replica_count for pool in pools] == replicas
    assert all(pool.container_spec.image_uri == cloud_doubles.IMAGE for pool in pools)
    assert all(pool.machine_spec == pools[0].machine_spec for pool in pools)


@pytest.mark.parametrize(
    ("flags", "machine"),
    [
        ([], ("e2-standard-8", "ACCELERATOR_TYPE_UNSPECIFIED", 0)),
        (["--accelerator", ""], ("e2-standard-8", "ACCELERATOR_TYPE_UNSPECIFIED", 0)),
        (["--machine-type", "n2-highmem-16"], ("n2-highmem-16", "ACCELERATOR_TYPE_UNSPECIFIED", 0)),
        (["--accelerator", "NVIDIA_TESLA_T4"], ("n1-standard-8", "NVIDIA_TESLA_T4", 1)),
        (["--accelerator", "NVIDIA_L4:8"], ("g2-standard-96", "NVIDIA_L4", 8)),
        (["--accelerator", "NVIDIA_TESLA_A100:8"], ("a2-highgpu-8g", "NVIDIA_TESLA_A100", 8)),
        (
            ["--accelerator", "NVIDIA_B200:8", "--machine-type", "a4-highgpu-8g"],
            ("a4-highgpu-8g", "NVIDIA_B200", 8),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_machines_fit_their_accelerators(dry_run, flags, machine):
    (pool,) = spec(dry_run(*flags)).worker_pool_specs
    found = pool.machine_spec
    assert (found.machine_type, found.accelerator_type.name, found.accelerator_count) == machine


@pytest.mark.parametrize(
    "fit_flags",
    [
        [],
        ["--init", "k-means||", "--seed", "-3", "--restarts", "4", "--tol", "0.25"],
        ["--init", "gs://b-1/first.npy", "--memory", "stream", "--algorithm", "lloyd", "--quiet"],
        ["--max-iterations", "7", "--checkpoint-seconds", "0", "--start-timeout-seconds", "60"],
        ["--replicas", "8"],
    ],
    ids=" ".join,
)
def test_the_machines_run_the_fit_that_was_asked_for(dry_run, fit_flags):
    (pool,) = spec(dry_run(*fit_flags)).worker_pool_specs
    assert list(pool.container_spec.command) == ["kmeans-job"]
    found = vars(build_parser().parse_args(list(pool.container_spec.args)))
    folders = [
        "fit",
        "--shards",
        f"{cloud_doubles.OUTPUT}/shards",
        "--output",
        cloud_doubles.OUTPUT,
        "--k",
        "10",
    ]
    wanted = vars(build_parser().parse_args([*folders, *fit_flags]))
    assert {**found, "parser": None} == {**wanted, "parser": None}


def test_a_fit_that_starts_again_keeps_its_checkpoint(dry_run):
    (pool,) = spec(dry_run("--overwrite")).worker_pool_specs
    assert "--overwrite" not in pool.container_spec.args


def test_preempted_workers_all_start_again(dry_run):
    job = spec(dry_run("--spot", "--timeout-hours", "1.5"))
    assert job.scheduling.strategy.name == "SPOT"
    assert job.scheduling.restart_job_on_worker_restart
    assert job.scheduling.timeout.total_seconds() == 5400
    assert spec(dry_run()).scheduling.strategy.name == "STANDARD"


def test_what_vertex_ai_puts_into_tf_config_is_understood():
    cluster = {"chief": ["host-pool0-a-0:2222"], "worker": ["host-pool1-a-0:2222"]}
    config = {
        "cluster": cluster,
        "environment": "cloud",
        "task": {"type": "worker", "index": 0, "trial": "1", "cloud": "c36e6d"},
        "job": '{"worker_pool_specs": []}',
    }
    found = workers.parse(json.dumps(config))
    assert (found.size, found.number) == (2, 1)
    chief = {**config, "task": {"type": "chief", "index": 0, "trial": "1"}}
    assert workers.parse(json.dumps(chief)).number == 0
    alone = {**chief, "cluster": {"chief": ["127.0.0.1:2222"]}}
    assert workers.parse(json.dumps(alone)) is None

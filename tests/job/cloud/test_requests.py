"""The requests of a cloud job, as `submit --dry-run` shows them, and what it refuses."""

import json
import re
import subprocess
import sys

import cloud_doubles
import pytest
from google.cloud import aiplatform_v1
from google.cloud import dataflow as dataflow_api

from job.cli import build_parser, main
from job.cloud import services
from job.cloud.config import GPU_MACHINES
from job.distribute import workers
from pipeline.errors import UserError

OUTPUT = f"gs://{cloud_doubles.BUCKET}/out"
NEEDED = {
    "--project": cloud_doubles.PROJECT,
    "--region": cloud_doubles.REGION,
    "--input": "gs://somewhere/images.npz",
    "--output": OUTPUT,
    "--image": cloud_doubles.IMAGE,
    "--k": "10",
}


def command(*flags: str, **values: str | None) -> list[str]:
    """`submit` with what it needs; `values` are other values of these flags, None for no flag."""
    given = NEEDED | {f"--{name}": value for name, value in values.items()}
    pairs = [part for name, value in given.items() if value is not None for part in (name, value)]
    return ["submit", *pairs, *flags]


@pytest.fixture
def dry_run(capfd, monkeypatch):
    """Runs `submit --dry-run` where a network would be noticed; the object it prints."""

    def no_network(*args):
        raise AssertionError("the network was touched")

    def run(*flags: str, **values: str | None) -> dict:
        monkeypatch.setattr("socket.socket.connect", no_network)
        monkeypatch.setattr("socket.getaddrinfo", no_network)
        monkeypatch.setattr("google.auth.default", no_network)
        status = main([*command(*flags, **values), "--dry-run"])
        stdout, stderr = capfd.readouterr()
        assert (status, stderr) == (0, "")
        return json.loads(stdout)

    return run


@pytest.fixture
def refused(capfd):
    """Runs `submit`, which must end with 2 and one line on stderr; that line."""

    def run(*flags: str, **values: str | None) -> str:
        status = main([*command(*flags, **values), "--dry-run"])
        stdout, stderr = capfd.readouterr()
        assert (status, stdout, stderr.count("\n")) == (2, "", 1), stderr
        return stderr

    return run


def spec(printed: dict) -> aiplatform_v1.CustomJobSpec:
    """The CustomJobSpec in what --dry-run printed, which must survive the provider's own type."""
    request = aiplatform_v1.CreateCustomJobRequest.from_json(json.dumps(printed["vertex"]))
    assert services.as_json(request) == printed["vertex"]
    assert request.parent == f"projects/{cloud_doubles.PROJECT}/locations/{cloud_doubles.REGION}"
    return request.custom_job.job_spec


# Vertex AI.


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


def test_every_machine_of_the_table_is_of_a_known_accelerator():
    assert GPU_MACHINES.keys() <= aiplatform_v1.AcceleratorType.__members__.keys()


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
    folders = ["fit", "--shards", f"{OUTPUT}/shards", "--output", OUTPUT, "--k", "10"]
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


def test_the_service_account_is_that_of_both_jobs(dry_run):
    email = "worker@my-project.iam.gserviceaccount.com"
    printed = dry_run("--service-account", email)
    assert spec(printed).service_account == email
    assert printed["dataflow"]["job"]["environment"]["serviceAccountEmail"] == email


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


# Dataflow.


def test_dataflow_is_asked_for_workers_that_run_the_image(dry_run):
    printed = dry_run()["dataflow"]
    request = dataflow_api.CreateJobRequest.from_json(json.dumps(printed))
    assert (request.project_id, request.location) == (cloud_doubles.PROJECT, cloud_doubles.REGION)
    (pool,) = request.job.environment.worker_pools
    assert pool.worker_harness_container_image == cloud_doubles.IMAGE
    assert (pool.machine_type, pool.autoscaling_settings.max_num_workers) == ("e2-standard-2", 8)
    options = printed["job"]["environment"]["sdkPipelineOptions"]["options"]
    assert options["sdk_location"] == "container"
    assert options["temp_location"] == f"gs://{cloud_doubles.BUCKET}/kmeans-job-tmp"


def test_flags_of_beam_override_what_dataflow_is_asked_for(dry_run):
    given = (
        "--max_num_workers=3",
        "--worker_machine_type=n2-highmem-4",
        "--temp_location=gs://t/t",
    )
    environment = dry_run(*given, "--flexrs_goal=COST_OPTIMIZED")["dataflow"]["job"]["environment"]
    (pool,) = environment["workerPools"]
    assert pool["machineType"] == "n2-highmem-4"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 3
    assert environment["flexResourceSchedulingGoal"] == "FLEXRS_COST_OPTIMIZED"
    assert environment["tempStoragePrefix"].endswith("/t/t")


def test_one_output_has_one_name(dry_run):
    names = {dry_run("--seed", seed)["dataflow"]["job"]["name"] for seed in ("1", "2")}
    names |= {dry_run()["vertex"]["customJob"]["displayName"]}
    (name,) = names
    assert re.fullmatch("kmeans-job-[0-9a-f]{12}", name)
    assert dry_run(output=OUTPUT + "2")["dataflow"]["job"]["name"] != name
    assert dry_run(output=OUTPUT + "/")["dataflow"]["job"]["name"] == name


# Refusals.


@pytest.mark.parametrize(
    ("flags", "values", "said"),
    [
        ([], {"image": None}, "--image: missing; build one with `gcloud builds submit`"),
        ([], {"image": "Kmeans Job"}, "--image Kmeans Job"),
        (
            [],
            {"output": "s3://bucket/out"},
            "--output s3://bucket/out: is not a folder in a bucket",
        ),
        ([], {"output": "out/here"}, "--output out/here"),
        ([], {"output": "gs://bucket"}, "gs://B/DIR"),
        ([], {"project": "My Project"}, "--project My Project: is not a project ID"),
        ([], {"region": "us-central1-a"}, "--region us-central1-a: is not a region"),
        ([], {"input": "photos/"}, "--input photos/: machines in the cloud cannot read it"),
        ([], {"input": "s3://b/x.npz"}, "gcloud storage cp -r s3://b/x.npz"),
        (["--init", "first.npy"], {}, "--init first.npy: machines in the cloud cannot"),
        (["--workers", "0"], {}, "--workers 0: must be at least 1"),
        (["--workers", "4", "--num-shards", "3"], {}, "--num-shards 3: each of the 4 workers"),
        (["--timeout-hours", "0"], {}, "--timeout-hours 0"),
        (["--service-account", "me"], {}, "--service-account me"),
        (["--k", "0"], {}, "--k 0: must be at least 1"),
        (["--runner=DirectRunner"], {}, "--runner=DirectRunner: submit sets it itself"),
        (["--max_workers=3"], {}, "did you mean --max_num_workers?"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_what_cannot_be_had_is_refused(refused, flags, values, said):
    assert said in refused(*flags, **values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("T4:1", "did you mean NVIDIA_TESLA_T4? TYPE:COUNT has a TYPE of NVIDIA_TESLA_K80, "),
        ("nvidia-l4", "did you mean NVIDIA_L4?"),
        ("NVIDIA_TESLA_TT4", "did you mean NVIDIA_TESLA_T4?"),
        ("TPU_V3:8", "TYPE of"),
        ("NVIDIA_L4:0", "COUNT must be a number from 1, e.g. NVIDIA_L4:1"),
        ("NVIDIA_L4:many", "COUNT must be"),
        ("NVIDIA_L4:3", "machines have 1, 2, 4, 8 of them"),
        ("NVIDIA_TESLA_T4:8", "machines have 1, 2, 4 of them"),
        ("NVIDIA_B200:8", "--accelerator NVIDIA_B200: needs a --machine-type that has it"),
    ],
)
def test_an_accelerator_that_does_not_exist_is_refused(refused, text, said):
    line = refused("--accelerator", text)
    assert said in line
    assert text.split(":")[0] in line


@pytest.mark.parametrize(
    ("module", "function", "said"),
    [
        ("google.cloud.aiplatform_v1", services.vertex_types, "google-cloud-aiplatform"),
        ("google.cloud.dataflow", services.dataflow_types, "apache-beam[gcp]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, function, said):
    parent, _, name = module.rpartition(".")
    monkeypatch.delattr(sys.modules[parent], name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        function()
    assert "pip install 'kmeans-job[gcp]'" in str(caught.value)


def test_the_dry_run_is_one_json_object_whatever_the_libraries_say():
    line = [sys.executable, "-m", "job", *command("--dry-run")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).keys() == {"dataflow", "vertex"}
    assert done.stderr == ""

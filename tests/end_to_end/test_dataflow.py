"""What Dataflow and Cloud Storage receive when a job is submitted, from Beam itself."""

import json
import re
import sys

import cloud_doubles
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import dataflow, storage

from job.cloud import services, submit
from job.config import FitConfig, Ks
from pipeline.config import ShardConfig
from pipeline.errors import UserError
from pipeline.shard import open_input

ACCOUNT = "worker@my-project.iam.gserviceaccount.com"
SMALL_BYTES = 1_000_000  # what a job of any size must stay below


@pytest.fixture
def staged(emulator):
    """What lies in the bucket by then, by name; nothing is staged when a test begins."""
    bucket = storage.Client.create_anonymous_client().bucket(cloud_doubles.BUCKET)

    def blobs():
        return list(bucket.list_blobs(prefix="kmeans-job-tmp/"))

    bucket.delete_blobs(blobs())
    return lambda: {blob.name: blob.download_as_bytes() for blob in blobs()}


@pytest.fixture
def service():
    with cloud_doubles.dataflow() as service:
        yield service


def start(service, spec, *beam_flags: str, num_shards: int = 4, also=None, **config) -> str:
    """Submits the sharding of `spec`, as `submit` does when the output folder is ready."""
    made = cloud_doubles.config(service_account=ACCOUNT, **config)
    sharding = ShardConfig(
        input=spec,
        output=made.shards,
        num_shards=num_shards,
        beam_options=(*service.beam_flags, *beam_flags),
        **(also or {}),
    )
    fit = FitConfig(made.shards, made.output, 10)
    asked = submit.Submission(made, sharding, fit, Ks([10]))
    source = open_input(asked.sharding)
    return submit.start_dataflow(asked, source, num_shards)


def graph(staged: dict[str, bytes]) -> beam_runner_api_pb2.Pipeline:
    """The pipeline that was staged."""
    (data,) = (data for name, data in staged.items() if name.endswith("/pipeline.pb"))
    return beam_runner_api_pb2.Pipeline.FromString(data)


def options(job: dict) -> dict:
    return job["environment"]["sdkPipelineOptions"]["options"]


def test_the_service_receives_the_whole_job(service, staged):
    assert start(service, "digits") == cloud_doubles.CREATED
    ((path, job),) = service.received
    assert path == f"/v1b3/projects/{cloud_doubles.PROJECT}/locations/{cloud_doubles.REGION}/jobs"
    assert job["name"] == cloud_doubles.config().name
    environment = job["environment"]
    assert environment["serviceAccountEmail"] == ACCOUNT
    (pool,) = environment["workerPools"]
    assert pool["machineType"] == "e2-standard-2"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 8
    assert pool["workerHarnessContainerImage"] == cloud_doubles.IMAGE
    (container,) = pool["sdkHarnessContainerImages"]
    assert container["containerImage"] == cloud_doubles.IMAGE
    assert options(job)["sdk_location"] == "container"
    assert {"use_runner_v2", "beam_fn_api"} <= set(environment["experiments"])


def test_what_the_job_refers_to_is_staged(service, staged):
    start(service, "digits")
    prefix = f"gs://{cloud_doubles.BUCKET}/"
    staging = options(service.job)["staging_location"].removeprefix(prefix)
    assert staging.startswith("kmeans-job-tmp/")
    assert options(service.job)["pipelineUrl"] == f"{prefix}{staging}/pipeline.pb"
    environments = graph(staged()).components.environments.values()
    files = [dependency for each in environments for dependency in each.dependencies]
    urls = [
        beam_runner_api_pb2.ArtifactUrlPayload.FromString(file.type_payload).url for file in files
    ]
    assert {url.removeprefix(prefix) for url in urls} | {f"{staging}/pipeline.pb"} == set(staged())


def test_the_launchers_environment_is_not_uploaded(service, staged):
    start(service, "digits")
    (data,) = staged().values()
    assert sys.prefix.encode() not in data


def test_the_graph_holds_no_pixels(service, staged, tmp_path):
    shape = (1_000_000, 32, 32)
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, shape)
    del images  # a file without blocks on disk
    start(service, tmp_path / "images.npy", num_shards=10_000)
    assert len(json.dumps(service.job)) < SMALL_BYTES
    assert sum(map(len, staged().values())) < SMALL_BYTES


# Options with other values than Beam's defaults, but for those that name the run.
OPTIONS = {
    "dataflow_service_options": [],
    "experiments": [
        "disable_logging_submission_environment",
        "beam_fn_api",
        "use_unified_worker",
        "use_runner_v2",
        "use_portable_job_submission",
        "use_multiple_sdk_containers",
    ],
    "machine_type": "e2-standard-2",
    "max_num_workers": 8,
    "no_auth": True,
    "pickle_library": "cloudpickle",
    "project": cloud_doubles.PROJECT,
    "region": cloud_doubles.REGION,
    "runner": "DataflowRunner",
    "save_main_session": False,
    "sdk_container_image": cloud_doubles.IMAGE,
    "sdk_location": "container",
    "service_account_email": ACCOUNT,
    "worker_harness_container_image": cloud_doubles.IMAGE,
}
STEPS = [
    "ShardImages/Collect",
    "ShardImages/Complete",
    "ShardImages/Key",
    "ShardImages/Pieces",
    "ShardImages/Write",
]


def test_the_job_file_is_the_known_one(service, staged, tmp_path):
    """Names, kinds and options; not times, hashes and what Beam calls its own inner steps."""
    start(service, "digits", f"--dataflow_job_file={tmp_path}/job.json")
    written = json.loads((tmp_path / "job.json").read_text())
    job = dataflow.Job.from_json(json.dumps(written))
    assert job == dataflow.Job.from_json(json.dumps(service.job))
    known = PipelineOptions([]).get_all_options()
    changed = {name: value for name, value in options(written).items() if value != known.get(name)}
    for name in ("staging_location", "temp_location", "pipelineUrl"):
        changed[name] = re.sub(r"\.\d+\.\d+(?=/|$)", ".TIME", changed[name])
    folder = f"gs://{cloud_doubles.BUCKET}/kmeans-job-tmp/{job.name}.TIME"
    of_the_run = {
        "job_name": job.name,
        "dataflow_endpoint": service.url,
        "dataflow_job_file": f"{tmp_path}/job.json",
        "staging_location": folder,
        "temp_location": folder,
        "pipelineUrl": f"{folder}/pipeline.pb",
    }
    of_beam = ("pipelineProtoHash", "beam_plugins")
    found = {name: value for name, value in changed.items() if name not in of_beam}
    assert found == OPTIONS | of_the_run
    steps = graph(staged()).components.transforms.values()
    names = {"/".join(step.unique_name.split("/")[:2]) for step in steps if "/" in step.unique_name}
    assert sorted(names) == STEPS


def test_components_are_found_before_the_images_are_projected(service, staged):
    start(service, "digits", also={"transform": "pca:5"})
    steps = {step.unique_name for step in graph(staged()).components.transforms.values()}
    assert {"ShardImages/Survey/Sum", "ShardImages/Survey/Save", "ShardImages/Write"} <= steps


def test_a_missing_bucket_is_named_at_once(service, staged):
    with pytest.raises(UserError, match="gs://no-such-bucket/tmp"):
        start(service, "digits", "--temp_location=gs://no-such-bucket/tmp")
    assert not service.received


def test_a_refusal_is_told_in_one_line(service, staged):
    service.refusal = 403, "permission dataflow.jobs.create\nis missing"
    with pytest.raises(UserError, match=r"refused \(403\): .*dataflow.jobs.create is missing"):  # noqa: SIM117
        with services.explained("Google Cloud"):
            start(service, "digits")

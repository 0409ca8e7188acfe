"""The request of a sharding job on Dataflow, as `submit --dry-run` shows it."""

import json

import cloud_doubles
from google.cloud import dataflow as dataflow_api


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

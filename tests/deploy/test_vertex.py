"""The custom job for Vertex AI, against the provider's own type."""

import yaml
from google.cloud import aiplatform_v1
from google.protobuf import json_format
from jobs import ROOT

from job.cli import build_parser


def test_the_file_is_a_custom_job():
    text = (ROOT / "deploy" / "vertex" / "custom_job.yaml").read_text(encoding="utf-8")
    spec = aiplatform_v1.CustomJobSpec()
    json_format.ParseDict(yaml.safe_load(text), spec._pb)  # refuses fields that do not exist
    request = aiplatform_v1.CreateCustomJobRequest(
        parent="projects/P/locations/R",
        custom_job=aiplatform_v1.CustomJob(display_name="kmeans", job_spec=spec),
    )
    job = request.custom_job.job_spec
    first, others = job.worker_pool_specs
    assert (first.replica_count, others.replica_count) == (1, 3)
    assert first.machine_spec == others.machine_spec
    assert first.container_spec == others.container_spec
    assert list(first.container_spec.command) == []  # the image's entrypoint
    assert build_parser().parse_args(list(first.container_spec.args)).k == (100,)
    assert job.scheduling.restart_job_on_worker_restart
    assert job.scheduling.strategy.name == "SPOT"

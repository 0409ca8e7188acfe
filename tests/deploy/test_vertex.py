"""The custom job for Vertex AI, against the provider's own type, and the set-up of a project."""

import os
import subprocess

import pytest
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


GCLOUD = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *describe*) exit "$ABSENT" ;; *"$FAILS"*) exit 1 ;; esac
"""


@pytest.mark.parametrize("absent", [0, 1])
def test_the_set_up_creates_what_is_absent_and_stops_where_something_fails(tmp_path, absent):
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    calls = tmp_path / "calls"
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["sh", ROOT / "deploy" / "vertex" / "setup.sh", "P", "us-central1", "B"]

    def run(fails: str) -> tuple[int, list[str]]:
        calls.write_text("")
        own = {"PATH": path, "CALLS": str(calls), "ABSENT": str(absent), "FAILS": fails}
        status = subprocess.run(command, env=own, check=False).returncode
        return status, calls.read_text().splitlines()

    status, done = run("nothing")
    assert status == 0
    created = [line for line in done if " create " in line]
    assert len(created) == 4 * absent
    workers = [line for line in done if "serviceAccount:kmeans-worker@P." in line]
    roles = {line.split("--role ")[1].split()[0] for line in workers}
    assert roles == {
        "roles/artifactregistry.reader",
        "roles/dataflow.worker",
        "roles/storage.legacyBucketReader",
        "roles/storage.objectUser",
    }
    status, done = run("aiplatform.user")
    assert status == 1
    assert not any("serviceAccountUser" in line for line in done)

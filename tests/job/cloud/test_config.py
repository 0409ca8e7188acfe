"""Where a cloud job runs: what is refused, and what both of its requests share."""

import re

import cloud_doubles
import pytest
from google.cloud import aiplatform_v1

from job.cloud.config import GPU_MACHINES


def test_every_machine_of_the_table_is_of_a_known_accelerator():
    assert GPU_MACHINES.keys() <= aiplatform_v1.AcceleratorType.__members__.keys()


def test_the_service_account_is_that_of_both_jobs(dry_run):
    email = "worker@my-project.iam.gserviceaccount.com"
    printed = dry_run("--service-account", email)
    assert printed["vertex"]["customJob"]["jobSpec"]["serviceAccount"] == email
    assert printed["dataflow"]["job"]["environment"]["serviceAccountEmail"] == email


def test_one_output_has_one_name(dry_run):
    names = {dry_run("--seed", seed)["dataflow"]["job"]["name"] for seed in ("1", "2")}
    names |= {dry_run()["vertex"]["customJob"]["displayName"]}
    (name,) = names
    assert re.fullmatch("kmeans-job-[0-9a-f]{12}", name)
    assert dry_run(output=cloud_doubles.OUTPUT + "2")["dataflow"]["job"]["name"] != name
    assert dry_run(output=cloud_doubles.OUTPUT + "/")["dataflow"]["job"]["name"] == name


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

"""`submit` from end to end: a bucket, doubles that take the jobs, and the real work done here."""

import dataclasses
import itertools
import json
import subprocess
import sys

import cloud_doubles
import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import aiplatform_v1

from job.cli import build_parser, main, submission
from job.cloud import submit
from job.cloud.submit import Submission
from pipeline import storage
from pipeline.errors import JobError, UserError
from pipeline.shard import num_shards_of, open_input, shard

FAILURE = """Traceback (most recent call last):
  File "/usr/local/lib/python3.11/site-packages/pipeline/transforms.py", line 98, in complete
pipeline.errors.UserError: gs://b/x.npz: 7 of 9 images could not be read [while running 'Complete']
"""


class Cloud:
    """Google Cloud as `submit` sees it, and what it said.

    Attributes:
      asked: what `submit` is given by the command line.
      work: what is done while `submit` first waits for Dataflow, e.g. the sharding.
    """

    def __init__(self, service, output: str):
        self.dataflow, self.custom_jobs = service, cloud_doubles.CustomJobs()
        self.output, self.told = output, []
        self.naps: list[float] = []
        self.work = lambda: None

    def ask(self, *flags: str, **values: str) -> Submission:
        given = {
            "project": cloud_doubles.PROJECT,
            "region": cloud_doubles.REGION,
            "image": cloud_doubles.IMAGE,
            "input": "digits",
            "output": self.output,
            "k": "10",
            **values,
        }
        line = [part for name, value in given.items() for part in (f"--{name}", value)]
        args = build_parser().parse_args(["submit", *line, *flags])
        args.beam_options = tuple(self.dataflow.beam_flags)
        return submission(args)

    def submit(self, asked: Submission, wait: bool = False) -> None:
        clients = cloud_doubles.clients(self.dataflow, self.custom_jobs)
        submit.submit(asked, wait, clients, self.told.append, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if len(self.naps) == 1:
            self.work()

    def shard_here(self, asked: Submission) -> None:
        """What Dataflow's workers do."""
        config = dataclasses.replace(asked.sharding, quiet=True, overwrite=True, beam_options=())
        num_shards = num_shards_of(open_input(config), config.num_shards, asked.cloud.workers)
        shard(dataclasses.replace(config, num_shards=num_shards))


@pytest.fixture
def cloud(bucket, cpus):
    with cloud_doubles.dataflow() as service:
        yield Cloud(service, f"{bucket}/out")


RUNNING = ["JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_DONE"]


def test_the_whole_job(cloud):
    asked = cloud.ask("--workers", "2")
    cloud.dataflow.states = list(RUNNING)
    cloud.custom_jobs.states = ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    cloud.work = lambda: cloud.shard_here(asked)
    cloud.submit(asked, wait=True)
    # What Vertex AI's machines run makes a result of what Dataflow left there.
    assert main([*cloud.custom_jobs.arguments, "--quiet"]) == 0
    metrics = json.loads(storage.read_bytes(f"{cloud.output}/metrics.json"))
    assert metrics["num_images"] == 1797
    states = [line for line in cloud.told if line.startswith(("Dataflow", "Vertex"))]
    assert states == [
        *(f"Dataflow job {cloud_doubles.CREATED}: {state}" for state in ("submitted", "queued")),
        *(f"Dataflow job {cloud_doubles.CREATED}: {state}" for state in ("running", "done")),
        *(f"Vertex AI job 4711: {state}" for state in ("submitted", "pending", "running")),
        "Vertex AI job 4711: succeeded",
    ]
    assert cloud.naps == [submit.POLL_SECONDS] * 5
    assert cloud.told[-1] == f"{cloud.output}/report.html"


def test_what_is_shown_of_a_job_leads_to_it(cloud):
    asked = cloud.ask()
    cloud.shard_here(asked)
    cloud.submit(asked)
    where = "--project my-project --region us-central1"
    console, project = "https://console.cloud.google.com", "?project=my-project"
    assert cloud.told[1:] == [
        "Vertex AI job 4711: submitted",
        f"  link    {console}/vertex-ai/locations/us-central1/training/4711{project}",
        f"  logs    {console}/logs/query;query=resource.labels.job_id%3D%224711%22{project}",
        f"  follow  gcloud ai custom-jobs stream-logs 4711 {where}",
        f"  cancel  gcloud ai custom-jobs cancel 4711 {where}",
    ]


def test_shards_that_are_there_are_used(cloud):
    asked = cloud.ask()
    cloud.shard_here(asked)
    cloud.submit(asked)
    assert cloud.told[0].endswith("holds the shards of this input; Dataflow is not needed")
    assert not cloud.dataflow.received
    assert len(cloud.custom_jobs.received) == 1
    with pytest.raises(UserError, match="shards of another input"):
        cloud.submit(cloud.ask("--num-shards", "3"))
    with pytest.raises(UserError, match=r"--workers 4: more than the 1 shards of .*manifest\.json"):
        cloud.submit(cloud.ask("--workers", "4"))
    assert len(cloud.custom_jobs.received) == 1


def test_there_are_shards_for_all_workers(cloud):
    asked = cloud.ask("--workers", "5")
    source = open_input(asked.sharding)
    assert num_shards_of(source, asked.sharding.num_shards, asked.cloud.workers) == 5
    with pytest.raises(UserError, match="--num-shards 3: each of the 5 workers needs a shard"):
        cloud.ask("--workers", "5", "--num-shards", "3")


def test_a_result_is_not_overwritten_unless_told(cloud):
    storage.write_bytes(f"{cloud.output}/metrics.json", b"{}")
    with pytest.raises(UserError, match="holds a result"):
        cloud.submit(cloud.ask())
    assert not cloud.dataflow.received
    asked = cloud.ask("--overwrite")
    cloud.dataflow.states, cloud.work = list(RUNNING), lambda: cloud.shard_here(asked)
    cloud.submit(asked)
    assert not storage.exists(f"{cloud.output}/metrics.json")
    assert cloud.dataflow.received


def test_one_job_at_a_time_is_at_work_on_an_output(cloud):
    name = cloud.ask().cloud.name
    cloud.dataflow.active = ["another", name]
    with pytest.raises(
        UserError, match=f"Dataflow job id-{name} is at work .*jobs cancel id-{name}"
    ):
        cloud.submit(cloud.ask())
    cloud.dataflow.active = []
    parent = f"projects/{cloud_doubles.PROJECT}/locations/{cloud_doubles.REGION}"
    there = {"display_name": name, "name": f"{parent}/customJobs/12"}
    cloud.custom_jobs.active = [aiplatform_v1.CustomJob(**there, state="JOB_STATE_RUNNING")]
    with pytest.raises(UserError, match=r"Vertex AI job 12 is at work .*custom-jobs cancel 12"):
        cloud.submit(cloud.ask())
    assert not cloud.dataflow.received
    cloud.custom_jobs.active = [aiplatform_v1.CustomJob(**there, state="JOB_STATE_FAILED")]
    cloud.shard_here(cloud.ask())
    cloud.submit(cloud.ask())
    assert len(cloud.custom_jobs.received) == 1


@pytest.mark.parametrize(
    ("messages", "error", "said"),
    [
        ([FAILURE], UserError, r"gs://b/x.npz: 7 of 9 images could not be read$"),
        (
            ["a\nb: disk full\n"],
            JobError,
            r"failed \(b: disk full\); its log says more: https://cons",
        ),
    ],
)
def test_a_failed_sharding_says_why(cloud, messages, error, said):
    cloud.dataflow.states = ["JOB_STATE_RUNNING", "JOB_STATE_FAILED"]
    cloud.dataflow.messages = messages
    with pytest.raises(error, match=said):
        cloud.submit(cloud.ask())
    assert not cloud.custom_jobs.received


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_fit_that_ends_otherwise_is_an_error(cloud, state):
    asked = cloud.ask()
    cloud.shard_here(asked)
    cloud.custom_jobs.states = [f"JOB_STATE_{state}"]
    with pytest.raises(JobError, match=f"Vertex AI job 4711: {state.lower()}; its log"):
        cloud.submit(asked, wait=True)
    cloud.submit(asked)  # nobody waits


def test_ctrl_c_says_how_to_cancel(cloud, capfd):
    def interrupt():
        raise KeyboardInterrupt

    cloud.dataflow.states, cloud.work = ["JOB_STATE_RUNNING"], interrupt
    with pytest.raises(KeyboardInterrupt):
        cloud.submit(cloud.ask())
    cancel = f"gcloud dataflow jobs cancel {cloud_doubles.CREATED} --project my-project"
    assert f"keeps running; to cancel it: {cancel}" in capfd.readouterr().err


def test_a_refusal_is_one_line(cloud):
    cloud.dataflow.refusal = 403, "Permission dataflow.jobs.list\nis missing"
    with pytest.raises(UserError, match=r"Google Cloud: refused \(403\): .*jobs.list is missing"):
        cloud.submit(cloud.ask())


def test_a_machine_without_credentials(monkeypatch, capfd):
    def default(scopes):
        raise DefaultCredentialsError("none were found")

    monkeypatch.setattr(google.auth, "default", default)
    given = {"--project": cloud_doubles.PROJECT, "--region": cloud_doubles.REGION, "--k": "10"}
    given |= {"--input": "digits", "--output": "gs://bucket/o", "--image": cloud_doubles.IMAGE}
    assert main(["submit", *itertools.chain.from_iterable(given.items())]) == 2
    line = "kmeans-job: error: submit: no Google Cloud credentials on this machine; run"
    assert capfd.readouterr().err == f"{line} `gcloud auth application-default login`\n"


def test_nothing_in_the_bucket_names_the_project(cloud):
    asked = cloud.ask()
    cloud.shard_here(asked)
    cloud.submit(asked)
    assert main([*cloud.custom_jobs.arguments, "--quiet"]) == 0
    for name in storage.walk(cloud.output):
        assert cloud_doubles.PROJECT.encode() not in storage.read_bytes(f"{cloud.output}/{name}")


def test_the_dry_run_is_one_json_object_whatever_the_libraries_say():
    line = [sys.executable, "-m", "job", *cloud_doubles.submit_command("--dry-run")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).keys() == {"dataflow", "vertex"}
    assert done.stderr == ""

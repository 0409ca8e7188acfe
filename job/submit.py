"""The command `submit`: a job on Dataflow, then one on Vertex AI, and what becomes of them."""

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pipeline.__main__ as sharding
from job import cloud
from job.cloud import CloudConfig
from job.config import SHARDS
from pipeline import storage
from pipeline.errors import JobError, UserError, from_traceback
from pipeline.shards import MANIFEST, Manifest, load_manifest
from pipeline.sources.named import LOADERS
from pipeline.terminal import note, without_chatter

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 600.0  # with a service that fails to answer for now
CONSOLE = "https://console.cloud.google.com"
SUCCESS = ("done", "succeeded")
ENDED = (*SUCCESS, "failed", "cancelled", "expired", "partially_succeeded", "updated", "drained")


@dataclasses.dataclass(frozen=True)
class Submission:
    """What `submit` was asked for.

    Attributes:
      config: where it runs.
      sharding: the arguments of `shard`; their output is the config's folder of shards.
      beam_flags: of the user.
      fit: the arguments of `kmeans-job` on Vertex AI's machines.
    """

    config: CloudConfig
    sharding: argparse.Namespace
    beam_flags: list[str]
    fit: list[str]

    @classmethod
    def of(
        cls, args: argparse.Namespace, beam_flags: list[str], fit_flags: list[str]
    ) -> "Submission":
        """From the arguments of `submit`, and the flags of `fit` among them.

        Raises:
          UserError: one of them cannot be had in the cloud.
        """
        config = CloudConfig(
            project=args.project,
            region=args.region,
            output=args.output.rstrip("/"),
            image=args.image,
            workers=args.workers,
            machine_type=args.machine_type or None,
            accelerator=cloud.accelerator(args.accelerator),
            spot=args.spot,
            service_account=args.service_account or None,
            timeout_hours=args.timeout_hours,
        )
        cloud.check_reachable(args.input, args.init, tuple(LOADERS))
        if args.num_shards is not None and args.num_shards < config.workers:
            raise UserError(
                f"--num-shards {args.num_shards}: each of the {config.workers} workers needs a "
                "shard; give more, or fewer --workers"
            )
        fit = ["fit", "--shards", config.shards, "--output", config.output, *fit_flags]
        shard_args = argparse.Namespace(**{**vars(args), "output": config.shards})
        return cls(config, shard_args, beam_flags, fit)

    def dry_run(self) -> dict[str, Any]:
        """Both requests as JSON; touches no network."""
        with without_chatter():
            flags = cloud.dataflow_flags(self.config, self.beam_flags)
            request = cloud.vertex_request(self.config, self.fit)
            return {"dataflow": cloud.dataflow_request(flags), "vertex": cloud.as_json(request)}


class Clients(NamedTuple):
    """Of the services, which tests replace.

    Attributes:
      jobs, messages: Dataflow's JobsV1Beta3Client and MessagesV1Beta3Client.
      custom_jobs: Vertex AI's JobServiceClient.
    """

    jobs: Any
    messages: Any
    custom_jobs: Any


def connect(config: CloudConfig) -> Clients:
    """Clients with the credentials of this machine.

    Raises:
      UserError: it has none, or a package is missing.
    """
    types = cloud.vertex_types()
    dataflow = cloud.dataflow_types()
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, _ = google.auth.default(
            scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
    except GoogleAuthError as error:
        raise UserError(
            "submit: no Google Cloud credentials on this machine; run "
            "`gcloud auth application-default login`"
        ) from error
    return Clients(
        dataflow.JobsV1Beta3Client(credentials=credentials),
        dataflow.MessagesV1Beta3Client(credentials=credentials),
        types.JobServiceClient(
            credentials=credentials,
            client_options={"api_endpoint": f"{config.region}-aiplatform.googleapis.com"},
        ),
    )


class Started(NamedTuple):
    """A job that a service has accepted.

    Attributes:
      title: what messages call it.
      link, logs: pages of the console.
      follow, cancel: commands.
    """

    title: str
    link: str
    logs: str
    follow: str
    cancel: str


def dataflow_job(config: CloudConfig, job_id: str) -> Started:
    """The Dataflow job of this id."""
    where = f"--project {config.project} --region {config.region}"
    page = f"{CONSOLE}/dataflow/jobs/{config.region}/{job_id}"
    return Started(
        f"Dataflow job {job_id}",
        f"{page}?project={config.project}",
        f"{page};logsSeverity=INFO?project={config.project}",
        f"gcloud dataflow jobs describe {job_id} {where}",
        f"gcloud dataflow jobs cancel {job_id} {where}",
    )


def custom_job(config: CloudConfig, name: str) -> Started:
    """The Vertex AI CustomJob of this resource name."""
    number = name.rsplit("/", 1)[-1]
    where = f"--project {config.project} --region {config.region}"
    query = f"resource.labels.job_id%3D%22{number}%22"
    return Started(
        f"Vertex AI job {number}",
        f"{CONSOLE}/vertex-ai/locations/{config.region}/training/{number}?project={config.project}",
        f"{CONSOLE}/logs/query;query={query}?project={config.project}",
        f"gcloud ai custom-jobs stream-logs {number} {where}",
        f"gcloud ai custom-jobs cancel {number} {where}",
    )


def submit(
    submission: Submission,
    wait: bool,
    clients: Clients,
    tell: Callable[[str], None],
    sleep: Callable[[float], Any] = time.sleep,
) -> None:
    """Shards on Dataflow, unless the shards are there; then starts the fit on Vertex AI.

    It returns when Vertex AI has accepted the fit, or, with `wait`, when the fit is done.

    Raises:
      UserError: the user's input, an option or what is in the output folder is at fault.
      JobError: one of the jobs failed.
    """
    config = submission.config
    with refusals("Google Cloud"):
        refuse_running(config, clients)
        prepare_output(config.output, submission.sharding.overwrite)
        manifest = sharding.complete_shards(submission.sharding)
        if manifest is None:
            manifest = shard(submission, clients, tell, sleep)
        else:
            tell(f"{config.shards}: shards of this input are there; Dataflow is not needed")
        check_workers(config.workers, manifest, config.shards)
        request = cloud.vertex_request(config, submission.fit)
        name = clients.custom_jobs.create_custom_job(request).name
        job = custom_job(config, name)
        announce(job, tell)
        if wait:
            follow(job, lambda: custom_job_state(clients, name), tell, sleep)
            tell(f"{config.output}/report.html")


def prepare_output(folder: str, overwrite: bool) -> None:
    """Refuses a folder that holds something else before anything is paid for.

    With `overwrite`, what is there goes now: a fit that starts again must keep its checkpoint.
    """
    from job import outputs

    outputs.prepare(folder, overwrite, (SHARDS,))


def refuse_running(config: CloudConfig, clients: Clients) -> None:
    """Refuses a second job for an output that one is at work on."""
    types, dataflow = cloud.vertex_types(), cloud.dataflow_types()
    listed = clients.jobs.list_jobs(
        dataflow.ListJobsRequest(
            project_id=config.project,
            location=config.region,
            filter=dataflow.ListJobsRequest.Filter.ACTIVE,
        )
    )
    running = [dataflow_job(config, job.id) for job in listed if job.name == config.name]
    found = clients.custom_jobs.list_custom_jobs(
        types.ListCustomJobsRequest(
            parent=f"projects/{config.project}/locations/{config.region}",
            filter=f'display_name="{config.name}"',
        )
    )
    running += [custom_job(config, job.name) for job in found if _state(job.state) not in ENDED]
    if running:
        raise UserError(
            f"--output {config.output}: {running[0].title} is at work on it; wait until it has "
            f"ended, or cancel it: {running[0].cancel}"
        )


def shard(
    submission: Submission,
    clients: Clients,
    tell: Callable[[str], None],
    sleep: Callable[[float], Any],
) -> Manifest:
    """Shards the input on Dataflow; the manifest, when all is done."""
    config, args = submission.config, submission.sharding
    source, num_shards = sharding.open_input(args, config.workers)
    sharding.prepare_folder(args.output, args.overwrite)
    job_id = start_dataflow(submission, source, num_shards)
    job = dataflow_job(config, job_id)
    announce(job, tell)
    try:
        follow(job, lambda: dataflow_state(config, clients, job_id), tell, sleep)
    except JobError as error:
        for text in dataflow_errors(config, clients, job_id):
            if user_error := from_traceback(text):
                raise user_error from error
        raise
    return load_manifest(args.output)


def start_dataflow(submission: Submission, source: Any, num_shards: int) -> str:
    """Stages the pipeline that shards `source` and starts it; the job's id."""
    flags = cloud.dataflow_flags(submission.config, submission.beam_flags)
    with without_chatter():
        made = sharding.make_pipeline(submission.sharding, source, num_shards, flags)
        try:
            return made.run().job_id()
        except OSError as error:  # what Beam makes of a bucket that is not to be had
            raise UserError(" ".join(str(error).split())) from error


def dataflow_state(config: CloudConfig, clients: Clients, job_id: str) -> str:
    """The state of a Dataflow job, e.g. `running`."""
    request = cloud.dataflow_types().GetJobRequest(
        project_id=config.project, location=config.region, job_id=job_id
    )
    return _state(clients.jobs.get_job(request, retry=_patiently()).current_state)


def dataflow_errors(config: CloudConfig, clients: Clients, job_id: str) -> list[str]:
    """What a Dataflow job says of its errors."""
    dataflow = cloud.dataflow_types()
    request = dataflow.ListJobMessagesRequest(
        project_id=config.project,
        location=config.region,
        job_id=job_id,
        minimum_importance=dataflow.JobMessageImportance.JOB_MESSAGE_ERROR,
    )
    return [message.message_text for message in clients.messages.list_job_messages(request)]


def custom_job_state(clients: Clients, name: str) -> str:
    """The state of a CustomJob, e.g. `running`, and why it failed, if it did."""
    job = clients.custom_jobs.get_custom_job(name=name, retry=_patiently())
    return _state(job.state)


def _state(state: Any) -> str:
    return state.name.removeprefix("JOB_STATE_").lower()


def _patiently() -> Any:
    """Asks again where an answer may come later."""
    from google.api_core.retry import Retry

    return Retry(timeout=PATIENCE_SECONDS)


def announce(job: Started, tell: Callable[[str], None]) -> None:
    """Tells of a job that was started: where to see it, how to follow and how to cancel it."""
    tell(f"{job.title}: submitted")
    for title, text in zip(job._fields[1:], job[1:], strict=True):
        tell(f"  {title:7s} {text}")


def follow(
    job: Started,
    state_of: Callable[[], str],
    tell: Callable[[str], None],
    sleep: Callable[[float], Any],
) -> None:
    """Tells the states of a job as they change, until it has ended.

    Raises:
      JobError: it ended otherwise than it should.
    """
    last = ""
    try:
        while (state := state_of()) not in ENDED:
            if state != last:
                tell(f"{job.title}: {state}")
            last = state
            sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        note(f"{job.title} goes on; to cancel it: {job.cancel}")
        raise
    tell(f"{job.title}: {state}")
    if state not in SUCCESS:
        raise JobError(f"{job.title}: {state}; its log says why: {job.logs}")


def check_workers(workers: int, manifest: Manifest, folder: str) -> None:
    """Refuses workers for whom there is no shard."""
    if workers > len(manifest.shards):
        raise UserError(
            f"--workers {workers}: more than the {len(manifest.shards)} shards of "
            f"{storage.join(folder, MANIFEST)}; give fewer, or --overwrite"
        )


@contextlib.contextmanager
def refusals(where: str) -> Iterator[None]:
    """What a service refuses for good is the user's to mend: one line."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except exceptions.ClientError as error:
        text = " ".join(error.message.split())[:400]
        raise UserError(f"{where}: refused ({error.code}): {text}") from error
    except GoogleAuthError as error:
        text = " ".join(str(error).split())[:400]
        raise UserError(f"{where}: {text}; run `gcloud auth application-default login`") from error
    except exceptions.ServerError as error:
        raise JobError(f"{where}: fails for now ({error.message}); run it again") from error

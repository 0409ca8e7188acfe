"""`submit`: starts a job on Dataflow, then one on Vertex AI, and follows them."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from job.cloud import dataflow, services, vertex
from job.cloud.config import CloudConfig, check_reachable
from job.cloud.services import ENDED, SUCCESS, Clients, CloudJob
from job.config import SHARDS, FitConfig, Ks
from job.result.folder import prepare_output
from pipeline import options, storage
from pipeline.config import ShardConfig
from pipeline.errors import JobError, UserError, from_traceback
from pipeline.shard import (
    complete_shards,
    load_written,
    num_shards_of,
    open_input,
    prepare_shards,
    shard_pipeline,
)
from pipeline.shards.manifest import MANIFEST, Manifest
from pipeline.sources.formats import NAMED_SETS
from pipeline.transforms.dataflow import temporary_folder

logger = logging.getLogger(__name__)

POLL_SECONDS = 10.0
REASON_CHARACTERS = 300  # of a service's message


@dataclasses.dataclass(frozen=True)
class Submission:
    """A whole job for the cloud.

    Attributes:
      cloud: where it runs, and on which machines.
      sharding: the work of Dataflow; its output is `cloud.shards`.
      fit: the work of Vertex AI, for the largest of `ks`.
      ks: numbers of clusters: one, or several for a sweep.
    """

    cloud: CloudConfig
    sharding: ShardConfig
    fit: FitConfig
    ks: Ks

    def check(self) -> None:
        """Checks that the cloud can do the job; sends nothing.

        Raises:
          UserError: it cannot read an input, or a worker would have no shard.
        """
        check_reachable(self.sharding.input, self.fit.init, tuple(NAMED_SETS))
        asked, workers = self.sharding.num_shards, self.cloud.workers
        if asked is not None and asked < workers:
            raise UserError(
                f"--num-shards {asked}: each of the {workers} workers needs a shard; give more, or "
                "fewer --workers"
            )

    @property
    def fit_arguments(self) -> list[str]:
        """The arguments of `kmeans-job` on Vertex AI's machines.

        They leave out --overwrite: a fit that is preempted and starts again must keep its
        checkpoint.
        """
        places = ["--shards", self.fit.shards, "--output", self.fit.output, "--k", str(self.ks)]
        without = ("shards", "output", "k", "overwrite")
        return ["fit", *places, *options.to_flags(self.fit, without)]

    def dry_run(self) -> dict[str, Any]:
        """Returns both requests as JSON; sends nothing."""
        flags = dataflow.beam_flags_of(self.cloud, self.sharding.beam_options)
        requests = {
            "dataflow": dataflow.create_request(flags),
            "vertex": vertex.create_request(self.cloud, self.fit_arguments),
        }
        return {name: services.as_json(request) for name, request in requests.items()}


def submit(
    submission: Submission,
    wait: bool,
    clients: Clients,
    tell: Callable[[str], None],
    sleep: Callable[[float], Any] = time.sleep,
) -> None:
    """Shards the input on Dataflow, unless its shards exist; then starts the fit on Vertex AI.

    Args:
      wait: return when the fit is done, not when Vertex AI has accepted it.
      clients: where the requests go.
      tell: shows a line of text to the user.
      sleep: waits for some seconds between two requests for the state of a job.

    Raises:
      UserError: the input, an option or the output folder is at fault.
      JobError: one of the jobs failed.
    """
    config = submission.cloud
    with services.explained("Google Cloud"):
        refuse_running(config, clients)
        # Before anything is paid for. With --overwrite the old result is removed here, not by the
        # fit, which must keep its checkpoint when it starts again.
        prepare_output(config.output, submission.ks, submission.fit.overwrite, (SHARDS,))
        manifest = complete_shards(submission.sharding)
        if manifest is None:
            manifest = shard_on_dataflow(submission, clients, tell, sleep)
        else:
            tell(f"{config.shards}: holds the shards of this input; Dataflow is not needed")
        check_workers(config.workers, manifest, config.shards)
        request = vertex.create_request(config, submission.fit_arguments)
        name = clients.custom_jobs.create_custom_job(request).name
        job = vertex.job_of(config, name)
        announce(job, tell)
        if wait:
            progress = Progress(
                lambda: vertex.job_state(clients, name),
                lambda: vertex.error_messages(clients, name),
            )
            follow(job, progress, tell, sleep)
            page = "sweep.html" if len(submission.ks) > 1 else "report.html"
            tell(storage.join(config.output, page))


def refuse_running(config: CloudConfig, clients: Clients) -> None:
    """Raises UserError if a job that has not ended writes to the same output."""
    active = [*dataflow.active_jobs(config, clients), *vertex.active_jobs(config, clients)]
    if active:
        raise UserError(
            f"--output {config.output}: {active[0].title} is at work on it; wait until it has "
            f"ended, or cancel it: {active[0].cancel}"
        )


def shard_on_dataflow(
    submission: Submission,
    clients: Clients,
    tell: Callable[[str], None],
    sleep: Callable[[float], Any],
) -> Manifest:
    """Shards the input on Dataflow and waits for it; returns the manifest.

    Raises:
      UserError: the input, an option or the output folder is at fault.
      JobError: the job failed for another reason.
    """
    config, sharding = submission.cloud, submission.sharding
    source = open_input(sharding)
    num_shards = num_shards_of(source, sharding.num_shards, config.workers)
    prepare_shards(sharding, source)
    job_id = start_dataflow(submission, source, num_shards)
    job = dataflow.job_of(config, job_id)
    announce(job, tell)
    progress = Progress(
        lambda: dataflow.job_state(config, clients, job_id),
        lambda: dataflow.error_messages(config, clients, job_id),
    )
    follow(job, progress, tell, sleep)
    return load_written(sharding.output)


def start_dataflow(submission: Submission, source: Any, num_shards: int) -> str:
    """Stages the pipeline that shards `source` and starts it; returns the id of the job."""
    flags = dataflow.beam_flags_of(submission.cloud, submission.sharding.beam_options)
    sharding = dataclasses.replace(submission.sharding, beam_options=tuple(flags))
    made = shard_pipeline(sharding, source, num_shards)
    # Fails at once if the bucket is missing; Beam would retry for ten minutes.
    storage.exists(temporary_folder(flags))
    try:
        return made.run().job_id()
    except OSError as error:  # Beam raises it for a bucket that it cannot write to
        raise UserError(" ".join(str(error).split())) from error


def announce(job: CloudJob, tell: Callable[[str], None]) -> None:
    """Tells how to see, follow and cancel a job that was started."""
    tell(f"{job.title}: submitted")
    for title, text in zip(job._fields[1:], job[1:], strict=True):
        tell(f"  {title:7s} {text}")


class Progress(NamedTuple):
    """How to ask for the progress of a job.

    Attributes:
      state: returns its state, e.g. `running`.
      errors: returns its messages that report errors.
    """

    state: Callable[[], str]
    errors: Callable[[], list[str]]


def follow(
    job: CloudJob,
    progress: Progress,
    tell: Callable[[str], None],
    sleep: Callable[[float], Any],
) -> None:
    """Tells each new state of a job, until the job has ended.

    Raises:
      UserError: it met a fault of the user's.
      JobError: it failed otherwise, or was cancelled.
    """
    last = ""
    try:
        while (state := progress.state()) not in ENDED:
            if state != last:
                tell(f"{job.title}: {state}")
            last = state
            sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        logger.warning(f"{job.title} keeps running; to cancel it: {job.cancel}")
        raise
    tell(f"{job.title}: {state}")
    if state not in SUCCESS:
        raise failure(job, state, progress.errors())


def failure(job: CloudJob, state: str, errors: Sequence[str]) -> UserError | JobError:
    """Makes the error for a job that ended in `state`, with the messages `errors`."""
    for text in errors:
        if user_error := from_traceback(text):
            return user_error
    lines = [line for text in errors for line in text.splitlines() if line.strip()]
    # The last line, because an exception stands at the end of its traceback.
    why = f" ({' '.join(lines[-1].split())[:REASON_CHARACTERS]})" if lines else ""
    return JobError(f"{job.title}: {state}{why}; its log says more: {job.logs}")


def check_workers(workers: int, manifest: Manifest, folder: str) -> None:
    """Raises UserError if there are more workers than shards."""
    if workers > len(manifest.shards):
        raise UserError(
            f"--workers {workers}: more than the {len(manifest.shards)} shards of "
            f"{storage.join(folder, MANIFEST)}; give fewer, or --overwrite"
        )

"""`submit`: a job on Dataflow, then one on Vertex AI, and what becomes of them."""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from job.cloud import dataflow, services, vertex
from job.cloud.config import CloudConfig, check_reachable
from job.cloud.services import ENDED, SUCCESS, Clients, Started
from job.config import SHARDS, FitConfig, Ks
from pipeline import options, storage
from pipeline.config import ShardConfig
from pipeline.errors import JobError, UserError, from_traceback
from pipeline.shard import (
    complete_shards,
    load_written,
    num_shards_of,
    open_input,
    prepare_output,
    shard_pipeline,
)
from pipeline.shards.manifest import MANIFEST, Manifest
from pipeline.sources.formats import NAMED_SETS
from pipeline.transforms.dataflow import temporary_folder

logger = logging.getLogger(__name__)

POLL_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Submission:
    """A whole job for the cloud.

    Attributes:
      cloud: where it runs, and on what.
      sharding: what Dataflow does; its output is the cloud's folder of shards.
      fit: what Vertex AI does, for the largest of `ks`.
      ks: numbers of clusters, several for a sweep.
    """

    cloud: CloudConfig
    sharding: ShardConfig
    fit: FitConfig
    ks: Ks

    def check(self) -> None:
        """Refuses what cannot be had in the cloud; sends nothing.

        Raises:
          UserError: an input that only this machine sees, or workers without a shard.
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

        Without --overwrite: a fit that is preempted and starts again must keep its checkpoint.
        """
        places = ["--shards", self.fit.shards, "--output", self.fit.output, "--k", str(self.ks)]
        without = ("shards", "output", "k", "overwrite")
        return ["fit", *places, *options.to_flags(self.fit, without)]

    def dry_run(self) -> dict[str, Any]:
        """Both requests as JSON; touches no network."""
        flags = dataflow.beam_flags_of(self.cloud, self.sharding.beam_options)
        fit = vertex.request(self.cloud, self.fit_arguments)
        return {"dataflow": dataflow.request(flags), "vertex": vertex.as_json(fit)}


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
    config = submission.cloud
    with services.explained("Google Cloud"):
        refuse_running(config, clients)
        prepare_folder(submission)
        manifest = complete_shards(submission.sharding)
        if manifest is None:
            manifest = shard(submission, clients, tell, sleep)
        else:
            tell(f"{config.shards}: shards of this input are there; Dataflow is not needed")
        check_workers(config.workers, manifest, config.shards)
        request = vertex.request(config, submission.fit_arguments)
        name = clients.custom_jobs.create_custom_job(request).name
        job = vertex.started(config, name)
        announce(job, tell)
        if wait:
            follow(job, lambda: vertex.state(clients, name), tell, sleep)
            page = "sweep.html" if len(submission.ks) > 1 else "report.html"
            tell(storage.join(config.output, page))


def prepare_folder(submission: Submission) -> None:
    """Refuses a folder that holds something else before anything is paid for.

    With `--overwrite`, what is there goes now: a fit that starts again must keep its checkpoint.
    """
    from job.result.folder import prepare_output

    fit = submission.fit
    prepare_output(fit.output, submission.ks, fit.overwrite, (SHARDS,))


def refuse_running(config: CloudConfig, clients: Clients) -> None:
    """Refuses a second job for an output that one is at work on."""
    running = [*dataflow.running(config, clients), *vertex.running(config, clients)]
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
    config, sharding = submission.cloud, submission.sharding
    source = open_input(sharding)
    num_shards = num_shards_of(source, sharding.num_shards, config.workers)
    prepare_output(sharding, source)
    job_id = start_dataflow(submission, source, num_shards)
    job = dataflow.started(config, job_id)
    announce(job, tell)
    try:
        follow(job, lambda: dataflow.state(config, clients, job_id), tell, sleep)
    except JobError as error:
        for text in dataflow.errors(config, clients, job_id):
            if user_error := from_traceback(text):
                raise user_error from error
        raise
    return load_written(sharding.output)


def start_dataflow(submission: Submission, source: Any, num_shards: int) -> str:
    """Stages the pipeline that shards `source` and starts it; the job's id."""
    flags = dataflow.beam_flags_of(submission.cloud, submission.sharding.beam_options)
    sharding = dataclasses.replace(submission.sharding, beam_options=tuple(flags))
    made = shard_pipeline(sharding, source, num_shards)
    # Beam would go on asking for a missing bucket for ten minutes.
    storage.exists(temporary_folder(flags))
    try:
        return made.run().job_id()
    except OSError as error:  # what Beam makes of a bucket that is not to be had
        raise UserError(" ".join(str(error).split())) from error


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
        logger.warning(f"{job.title} goes on; to cancel it: {job.cancel}")
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

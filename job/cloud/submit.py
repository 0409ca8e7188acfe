"""The command `submit`: a job on Dataflow, then one on Vertex AI, and what becomes of them."""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from job.cloud import dataflow as cloud
from job.cloud import services
from job.cloud.dataflow import CloudConfig
from job.cloud.services import ENDED, SUCCESS, Clients, Started
from job.config import SHARDS
from pipeline import shard as sharding
from pipeline import storage
from pipeline.errors import JobError, UserError, from_traceback
from pipeline.shards.manifest import MANIFEST, Manifest
from pipeline.sources.builtin import LOADERS
from pipeline.terminal import note, without_chatter

POLL_SECONDS = 10.0


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
    with services.refusals("Google Cloud"):
        refuse_running(config, clients)
        prepare_output(submission)
        manifest = sharding.complete_shards(submission.sharding)
        if manifest is None:
            manifest = shard(submission, clients, tell, sleep)
        else:
            tell(f"{config.shards}: shards of this input are there; Dataflow is not needed")
        check_workers(config.workers, manifest, config.shards)
        request = cloud.vertex_request(config, submission.fit)
        name = clients.custom_jobs.create_custom_job(request).name
        job = services.custom_job(config, name)
        announce(job, tell)
        if wait:
            follow(job, lambda: services.custom_job_state(clients, name), tell, sleep)
            several = len(submission.sharding.k) > 1
            tell(f"{config.output}/{'sweep' if several else 'report'}.html")


def prepare_output(submission: Submission) -> None:
    """Refuses a folder that holds something else before anything is paid for.

    With `--overwrite`, what is there goes now: a fit that starts again must keep its checkpoint.
    """
    from job.result.folder import prepare_output

    args = submission.sharding
    prepare_output(submission.config.output, args.k, args.overwrite, (SHARDS,))


def refuse_running(config: CloudConfig, clients: Clients) -> None:
    """Refuses a second job for an output that one is at work on."""
    if running := services.running_jobs(config, clients):
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
    sharding.prepare_shards(args, source)
    job_id = start_dataflow(submission, source, num_shards)
    job = services.dataflow_job(config, job_id)
    announce(job, tell)
    try:
        follow(job, lambda: services.dataflow_state(config, clients, job_id), tell, sleep)
    except JobError as error:
        for text in services.dataflow_errors(config, clients, job_id):
            if user_error := from_traceback(text):
                raise user_error from error
        raise
    return sharding.load_written(args.output)


def start_dataflow(submission: Submission, source: Any, num_shards: int) -> str:
    """Stages the pipeline that shards `source` and starts it; the job's id."""
    flags = cloud.dataflow_flags(submission.config, submission.beam_flags)
    with without_chatter():
        made = sharding.shard_pipeline(submission.sharding, source, num_shards, flags)
        # Beam would go on asking for a missing bucket for ten minutes.
        storage.exists(cloud.temporary_folder(flags))
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

"""Beam's engines by name: the one that is chosen, and what it fails with, in one line.

Beam is imported inside the functions, as in `transforms.runner`.
"""

import contextlib
import logging
import re
from typing import Any

from pipeline.errors import JobError, UserError

# What DirectRunner falls back to, after it has tried to download another engine.
ENGINE = "FnApiRunner"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
GONE = "SDK worker disconnected"  # what Prism says of a worker process that was killed


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a message of the root logger is not one of a job server about the job."""
    return record.filename != "portable_runner.py" or _debugging()


def _is_of_prism(record: logging.LogRecord) -> bool:
    """Whether a line that Prism prints says what it does not raise: that a worker cannot start."""
    return _debugging() or "process failed" in record.getMessage()


def _debugging() -> bool:
    return logging.getLogger("apache_beam").isEnabledFor(logging.DEBUG)


# By logger, which messages are shown: engines raise what fails in a job, and log it before.
LOG_FILTERS = {"": _is_ours, "PrismJobServer": _is_of_prism}


def choose(options: Any) -> Any:
    """Returns the engine that `options` name, or the in-process one if they name none.

    Raises:
      UserError: the engine misses an option.
    """
    from apache_beam.options.pipeline_options import (
        DebugOptions,
        DirectOptions,
        PortableOptions,
        StandardOptions,
    )
    from apache_beam.runners.direct import DirectRunner
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.runners.portability.portable_runner import PortableRunner
    from apache_beam.runners.portability.prism_runner import PrismRunner
    from apache_beam.runners.runner import create_runner

    standard, direct = options.view_as(StandardOptions), options.view_as(DirectOptions)
    engine = create_runner(standard.runner or ENGINE)
    if type(engine) is PortableRunner and not options.view_as(PortableOptions).job_endpoint:
        raise UserError(
            "--runner PortableRunner: needs the --job_endpoint HOST:PORT of a job service, e.g. "
            "localhost:8073 of Prism"
        )
    if type(engine) is PrismRunner:
        # Else Beam keeps a Prism that could not start, and its --prism_location, for later calls.
        options.view_as(DebugOptions).add_experiment("disable_prism_server_singleton")
    # DirectRunner would first look for another engine in the network, and then do the same.
    if type(engine) not in (FnApiRunner, DirectRunner):
        return engine
    standard.runner = ENGINE
    if direct.direct_running_mode != "multi_processing":
        return create_runner(ENGINE)
    from pipeline.transforms.processes import ProcessEnvironment

    # The engine takes the environment it is given, unless it sees the mode: then it takes Beam's.
    direct.direct_running_mode = None
    return FnApiRunner(default_environment=ProcessEnvironment.default())


def cancel(result: Any) -> None:
    """Cancels a job that was handed to a job service, which would go on without this process.

    One on Dataflow goes on, because it is followed and cancelled by other commands.
    """
    from apache_beam.runners.portability.portable_runner import PipelineResult

    if isinstance(result, PipelineResult):
        with contextlib.suppress(Exception):  # the service may be what has ended
            result.cancel()


def explain(error: Exception, options: Any) -> UserError | JobError | None:
    """Says in one line what an engine that is not there, or lost a worker, failed with.

    None if it failed with anything else.
    """
    import grpc
    from apache_beam.options.pipeline_options import PortableOptions
    from apache_beam.version import __version__

    text = " ".join(str(error).split())
    if isinstance(error, grpc.FutureTimeoutError):
        endpoint = options.view_as(PortableOptions).job_endpoint
        return UserError(
            f"--job_endpoint {endpoint}: no job service answers there; start one, e.g. `prism`, or "
            "correct the address"
        )
    if re.search("remote prism binary|--prism_location|parse binary URL", text):
        return UserError(
            f"--runner PrismRunner: no Prism here, and none can be had ({text[:300]}); build it, "
            f"`go install {PRISM}@v{__version__}`, and give --prism_location ~/go/bin/prism"
        )
    if "failed to start environment" in text:
        return UserError(
            f"the engine cannot start workers ({text[-300:]}); give --environment_type LOOPBACK "
            "for workers in this process, or PROCESS, see docs/engines.md"
        )
    if GONE in text:
        return JobError(
            f"the engine lost a worker process amid its work ({text[:300]}); run the same command "
            "again"
        )
    return None

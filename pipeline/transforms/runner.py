"""Engines: makes a Beam pipeline of a transform, runs it, and checks the options meant for Beam.

Beam is imported inside the functions: whoever only asks for help does not wait for it.
"""

from collections.abc import Callable
from typing import Any

from pipeline.errors import UserError, from_engine
from pipeline.terminal import Parser, reject_flag

# What DirectRunner falls back to, after it has tried to download another engine.
ENGINE = "FnApiRunner"


def check_beam_flags(flags: list[str], known: list[str]) -> None:
    """Raises UserError unless Beam knows every one of `flags`.

    Args:
      known: flags of our own, which may be the ones that were meant.
    """
    if not flags:
        return
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import create_runner

    name = PipelineOptions(flags).view_as(StandardOptions).runner
    try:
        create_runner(name or ENGINE)  # an engine's module brings its options
    except (ImportError, ValueError) as error:
        raise UserError(f"--runner {name}: {' '.join(str(error).split())}") from error
    parser = Parser(add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        reject_flag(unknown[0], known + parser.flags())


def make_pipeline(make: Callable[[], Any], beam_flags: list[str]) -> Any:
    """A Beam pipeline of the transform that `make` makes.

    Raises:
      UserError: an option of Beam is at fault.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    options = PipelineOptions(beam_flags)
    if options.view_as(StandardOptions).runner is None:
        options.view_as(StandardOptions).runner = ENGINE
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # an engine misses options of its own
        raise UserError(" ".join(str(error).split())) from error
    _ = pipeline | make()
    return pipeline


def run(pipeline: Any) -> None:
    """Runs a Beam pipeline.

    Raises:
      UserError: what a worker met is the user's fault.
    """
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        user_error = from_engine(error)
        if user_error is None:
            raise
        raise user_error from error

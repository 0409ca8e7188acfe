"""Engines: makes a Beam pipeline of a transform, runs it, and checks the options meant for Beam.

Beam is imported inside the functions, so that `--help` does not wait for it.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.errors import UserError, from_engine
from pipeline.terminal import Parser, reject_flag
from pipeline.transforms import engines

NAMESPACE = "kmeans-job"  # of what steps count


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
        create_runner(name or engines.ENGINE)  # an engine's module brings its options
    except (ImportError, ValueError) as error:
        raise UserError(f"--runner {name}: {' '.join(str(error).split())}") from error
    parser = Parser(add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        reject_flag(unknown[0], known + parser.flags())


def make_pipeline(make: Callable[[], Any], beam_flags: list[str]) -> Any:
    """Makes a Beam pipeline of the transform that `make` returns.

    Args:
      make: called once Beam has been imported.
      beam_flags: Beam's options, which also choose the engine.

    Raises:
      UserError: an option of Beam is at fault.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(beam_flags)
    try:
        pipeline = beam.Pipeline(runner=engines.choose(options), options=options)
    except ValueError as error:  # an engine misses options of its own
        raise UserError(" ".join(str(error).split())) from error
    with _without_cells():
        _ = pipeline | make()
    return pipeline


@contextlib.contextmanager
def _without_cells() -> Iterator[None]:
    """Keeps Beam from naming steps after the cell of a notebook that they are made in.

    It would load its engine for notebooks for that, which needs pandas, and below version 3.
    """
    from apache_beam import pipeline

    named = pipeline.alter_label_if_ipython
    pipeline.alter_label_if_ipython = lambda *_: None
    try:
        yield
    finally:
        pipeline.alter_label_if_ipython = named


def run_pipeline(pipeline: Any) -> dict[str, Any]:
    """Runs a Beam pipeline until it is done.

    Returns:
      What its steps have counted, by name: numbers, and distributions with `mean` and `max`. Not
      all engines tell.

    Raises:
      UserError: a worker met a fault of the user's, or the engine is not there.
      JobError: a worker process ended.
    """
    try:
        with _without_tracebacks():
            return _counted(_finish(pipeline.run()))
    except Exception as error:
        explained = from_engine(error) or engines.explain(error, pipeline.options)
        if explained is None:
            raise
        raise explained from error


def _finish(result: Any) -> Any:
    """Waits until a pipeline that was started is done, and returns it; Ctrl-C cancels it."""
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        engines.cancel(result)
        raise
    return result


def _counted(result: Any) -> dict[str, Any]:
    """Returns the counters and distributions of a pipeline that is done."""
    try:
        from apache_beam.metrics import MetricsFilter

        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
        kinds = [*found["counters"], *found["distributions"]]
        return {each.key.metric.name: each.result for each in kinds}
    except Exception:
        # The pipeline is done, and an engine that has no figures raises anything.
        return {}


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keeps engines from showing tracebacks of workers on stderr.

    They raise the same exception, and a fault of the user's is to be told in one line.
    """
    from apache_beam.runners.worker import sdk_worker

    # Of workers that are threads of this process: Beam's one call of print there, besides logging
    # the traceback. No setting leaves it out, and to replace sys.stderr would silence all threads.
    sdk_worker.print = lambda *args, **kwargs: None
    filters = [(logging.getLogger(name), shown) for name, shown in engines.LOG_FILTERS.items()]
    for logger, shown in filters:
        logger.addFilter(shown)
    try:
        yield
    finally:
        del sdk_worker.print
        for logger, shown in filters:
            logger.removeFilter(shown)

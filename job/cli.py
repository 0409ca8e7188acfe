"""The command line: `kmeans-job COMMAND`. Loads Beam or TensorFlow only when a command needs it."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from job import __version__
from job.config import SHARDS, FitConfig, of_each, parse_ks
from job.distribute import process, workers
from job.distribute.preemption import on_sigterm
from pipeline import options, storage, streams
from pipeline.config import AssignConfig, ShardConfig
from pipeline.errors import UserError
from pipeline.terminal import LOG_LEVELS, PROGRAM, Parser, configure, exit_status, reject_flag

Command = Callable[[argparse.Namespace, tuple[str, ...]], None]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that `arguments` (default: the process's) name; the exit status."""
    with streams.forgiving():
        status = exit_status(lambda: _main(sys.argv[1:] if arguments is None else arguments))
        return process.leave(status)


def _worker_number() -> int | None:
    """The number of this process among the workers of TF_CONFIG; None where it is alone."""
    cluster = workers.parse(os.environ.get("TF_CONFIG"))
    return cluster.number if cluster else None


def _main(arguments: list[str]) -> None:
    flags, unknown = build_parser().parse_known_args(arguments)
    configure(_log_level(flags))
    if flags.beam and unknown:
        from pipeline.transforms.runner import check_beam_flags

        check_beam_flags(unknown, flags.parser.flags())
    elif unknown:
        reject_flag(unknown[0], flags.parser.flags())
    flags.command(flags, tuple(unknown))


def _log_level(flags: argparse.Namespace) -> str:
    return "info" if flags.verbose and flags.log_level == "warning" else flags.log_level


def build_parser() -> Parser:
    """The parser of every command; `command` of what it parses runs the chosen one."""
    parser = Parser(
        prog=PROGRAM, description="Exact K-means for large sets of images: shards → clusters."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str, beam: bool = False) -> Parser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=command, beam=beam, parser=made)
        return made

    run = add("run", _run, "the whole job on this machine: shard, then fit", beam=True)
    options.add_flags(run, ShardConfig, without=("output", "overwrite", "quiet"))
    _add_fit_flags(run, without=("shards", "k"))
    shard = add("shard", _shard, "images → shards (options of Beam are passed on)", beam=True)
    options.add_flags(shard, ShardConfig)
    _add_fit_flags(add("fit", _fit, "shards → result"), without=("k",))
    text = "new images → nearest centroid (options of Beam are passed on)"
    options.add_flags(add("assign", _assign, text, beam=True), AssignConfig)
    report = add("report", _report, "rebuild report.html, or sweep.html, from a result")
    report.add_argument("--run", required=True, metavar="DIR", help="folder of the result or sweep")
    _add_submit_flags(
        add("submit", _submit, "the whole job in Google Cloud: Dataflow, then Vertex AI", beam=True)
    )
    for made in commands.choices.values():
        _add_log_flags(made)
    return parser


def _add_log_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="the least severe messages that are shown (default: warning)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="--log-level info")


def _add_fit_flags(parser: argparse.ArgumentParser, without: tuple[str, ...]) -> None:
    """The flags of a fit, with several k, which FitConfig has not."""
    parser.add_argument(
        "--k",
        required=True,
        type=options.argument_type(parse_ks),
        metavar="K",
        help="number of clusters; or several, e.g. 8,10,16: each into DIR/k=…, compared in "
        "DIR/sweep.html",
    )
    options.add_flags(parser, FitConfig, without)


def _add_submit_flags(parser: argparse.ArgumentParser) -> None:
    from job.cloud.config import CloudConfig

    options.add_flags(parser, ShardConfig, without=("output", "overwrite", "quiet"))
    options.add_flags(parser, CloudConfig)
    _add_fit_flags(parser, without=("shards", "output", "k"))
    parser.add_argument(
        "--wait", action="store_true", help="until the fit is done, not only the shards"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print both requests as JSON and send nothing"
    )


def _fit_config(flags: argparse.Namespace, **given: Any) -> FitConfig:
    """The fit that the flags describe, of several k that of the largest."""
    quiet = flags.quiet or bool(_worker_number())  # one of several workers tells
    config = options.from_flags(FitConfig, vars(flags), k=max(flags.k), quiet=quiet, **given)
    if len(flags.k) > 1:
        of_each(config, flags.k)  # refused here, before any work
    return config


def _shard_config(
    flags: argparse.Namespace, folder: str, beam_options: tuple[str, ...]
) -> ShardConfig:
    return options.from_flags(ShardConfig, vars(flags), output=folder, beam_options=beam_options)


def _shard(flags: argparse.Namespace, beam_options: tuple[str, ...]) -> None:
    from pipeline.shard import shard

    shard(_shard_config(flags, flags.output, beam_options))


def _assign(flags: argparse.Namespace, beam_options: tuple[str, ...]) -> None:
    from pipeline.assign import assign

    assign(options.from_flags(AssignConfig, vars(flags), beam_options=beam_options))


def _fit(flags: argparse.Namespace, _: tuple[str, ...]) -> None:
    config = _fit_config(flags)
    beside = os.path.normpath(storage.join(flags.output, SHARDS))
    also = (SHARDS,) if os.path.normpath(flags.shards) == beside else ()
    process.prepare()
    from job import fit, sweep

    if len(flags.k) > 1:
        _tell(sweep.fit_each(config, flags.k, also, guard=on_sigterm), config)
    else:
        _tell(fit.fit(config, also, guard=on_sigterm), config)


def _run(flags: argparse.Namespace, beam_options: tuple[str, ...]) -> None:
    from job.run import run

    if _worker_number() is not None:
        raise UserError("TF_CONFIG: run is for one machine; shard once, then fit on every worker")
    folder = storage.join(flags.output, SHARDS)
    sharding = _shard_config(flags, folder, beam_options)
    config = _fit_config(flags, shards=folder)
    _tell(run(sharding, config, flags.k, _log_level(flags), guard=on_sigterm), config)


def _tell(result: dict[str, Any], config: FitConfig) -> None:
    """Prints a summary of what a fit or a sweep has found, unless it is to be quiet."""
    if config.quiet:
        return
    from job.result.summary import fit_summary, sweep_summary

    summary = sweep_summary if "fits" in result else fit_summary
    print(summary(result, config.output))


def _report(flags: argparse.Namespace, _: tuple[str, ...]) -> None:
    from job import report
    from job.result.read import read_sweep

    if sweep := read_sweep(flags.run):
        print(report.write_sweep_page(flags.run, sweep))
    else:
        print(report.write_report(flags.run))


def _submit(flags: argparse.Namespace, beam_options: tuple[str, ...]) -> None:
    from job.cloud import services
    from job.cloud.submit import submit

    asked = submission(flags, beam_options)
    if flags.dry_run:
        print(json.dumps(asked.dry_run(), indent=2, sort_keys=True))
    else:
        submit(asked, flags.wait, services.connect(asked.cloud), print)


def submission(flags: argparse.Namespace, beam_options: tuple[str, ...]) -> Any:
    """The job for the cloud that the flags of `submit` describe.

    Raises:
      UserError: an option cannot be had in the cloud.
    """
    from job.cloud.config import CloudConfig, accelerator
    from job.cloud.submit import Submission

    cloud = options.from_flags(CloudConfig, vars(flags), accelerator=accelerator(flags.accelerator))
    sharding = _shard_config(flags, cloud.shards, beam_options)
    fit = _fit_config(flags, shards=cloud.shards, output=cloud.output)
    asked = Submission(cloud, sharding, fit, flags.k)
    asked.check()
    return asked

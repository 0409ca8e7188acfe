"""The command line: `kmeans-job COMMAND`. Loads Beam or TensorFlow only when a command needs it."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from job import __version__
from job.config import (
    EXPORTED_MODELS,
    SHARDS,
    ExportConfig,
    FitConfig,
    parse_ks,
    sweep_configs,
)
from job.distribute import process, workers
from job.distribute.preemption import on_sigterm
from pipeline import options, storage, streams
from pipeline.config import AssignConfig, ShardConfig
from pipeline.errors import UserError
from pipeline.terminal import LOG_LEVELS, PROGRAM, Parser, configure, exit_status, reject_flag

if TYPE_CHECKING:
    from job.cloud.submit import Submission

Command = Callable[[argparse.Namespace], None]
SHARDS_AND_RESULT = "folder for the shards, in DIR/shards, and for the result"
REPLACE_BOTH = "replace shards, and a result or a checkpoint, in DIR"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that `arguments` name, by default those of the process.

    Returns:
      The exit status.
    """
    with streams.forgiving():
        status = exit_status(lambda: _main(sys.argv[1:] if arguments is None else arguments))
        return process.leave(status)


def _main(arguments: list[str]) -> None:
    """Parses `arguments` and runs the command; flags it does not know go to Beam."""
    flags, unknown = build_parser().parse_known_args(arguments)
    flags.beam_options = tuple(unknown)
    configure(_log_level(flags))
    if flags.beam and unknown:
        from pipeline.transforms.runner import check_beam_flags

        check_beam_flags(unknown, flags.parser.flags())
    elif unknown:
        reject_flag(unknown[0], flags.parser.flags())
    flags.command(flags)


def _log_level(flags: argparse.Namespace) -> str:
    return "info" if flags.verbose and flags.log_level == "warning" else flags.log_level


def build_parser() -> Parser:
    """Makes the parser of all commands; `command` of what it parses runs the chosen one."""
    parser = Parser(
        prog=PROGRAM, description="Exact K-means for large sets of images: shards → clusters."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str, beam: bool = False) -> Parser:
        about = f"{text} (options of Apache Beam are passed on to it)" if beam else text
        made = commands.add_parser(name, help=text, description=about)
        made.set_defaults(command=command, beam=beam, parser=made)
        return made

    text = "the whole job on this machine: shard, then fit"
    _add_run_flags(add("run", _run, text, beam=True))
    options.add_flags(add("shard", _shard, "images → shards", beam=True), ShardConfig)
    _add_fit_flags(add("fit", _fit, "shards → result"))
    text = "new images → nearest centroid"
    options.add_flags(add("assign", _assign, text, beam=True), AssignConfig)
    report = add("report", _report, "rebuild report.html, or sweep.html, from a result")
    report.add_argument("--run", required=True, metavar="DIR", help="folder of the result or sweep")
    text = "the result as things to use: images in folders, lists as CSV"
    options.add_flags(add("export", _export, text), ExportConfig)
    text = "the whole job in Google Cloud: shards on Dataflow, the fit on Vertex AI"
    _add_submit_flags(add("submit", _submit, text, beam=True))
    for made in commands.choices.values():
        _add_log_flags(made)
    return parser


def _add_log_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="least severe messages to show (default: warning)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="the same as --log-level info")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    options.add_flags(parser, ShardConfig, without=("output", "overwrite", "quiet"))
    _add_fit_flags(parser, without=("shards",), output=SHARDS_AND_RESULT, overwrite=REPLACE_BOTH)


def _add_fit_flags(
    parser: argparse.ArgumentParser, without: tuple[str, ...] = (), **other_help: str
) -> None:
    """Adds the flags of a fit; its `--k` takes several numbers, of which FitConfig has one."""
    parser.add_argument(
        "--k",
        required=True,
        type=options.argument_type(parse_ks),
        metavar="K",
        help="number of clusters; or several, e.g. 8,10,16, whose results go to DIR/k=… and are "
        "compared in DIR/sweep.html",
    )
    options.add_flags(parser, FitConfig, (*without, "k"), **other_help)


def _add_submit_flags(parser: argparse.ArgumentParser) -> None:
    from job.cloud.config import CloudConfig

    options.add_flags(parser, ShardConfig, without=("output", "overwrite", "quiet"))
    options.add_flags(parser, CloudConfig)
    _add_fit_flags(parser, without=("shards", "output"), overwrite=REPLACE_BOTH)
    parser.add_argument(
        "--wait", action="store_true", help="return when the fit is done, not when it is submitted"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print both requests as JSON and send nothing"
    )


def _fit_config(flags: argparse.Namespace, **given: Any) -> FitConfig:
    """Makes the config of the fit, or of the fit of the largest k if there are several."""
    group = workers.of_environment()
    quiet = flags.quiet or (group is not None and group.number > 0)  # only number 0 prints
    config = options.from_flags(FitConfig, vars(flags), k=max(flags.k), quiet=quiet, **given)
    if len(flags.k) > 1:
        sweep_configs(config, flags.k)  # raises here, before any work, if a k is not allowed
    return config


def _shard(flags: argparse.Namespace) -> None:
    from pipeline.shard import shard

    shard(options.from_flags(ShardConfig, vars(flags)))


def _assign(flags: argparse.Namespace) -> None:
    from pipeline.assign import assign

    assign(options.from_flags(AssignConfig, vars(flags)))


def _fit(flags: argparse.Namespace) -> None:
    config = _fit_config(flags)
    # The output may hold the shards of this fit, where `run` puts them, but no other ones.
    of_run = os.path.normpath(storage.join(config.output, SHARDS))
    also = (SHARDS,) if os.path.normpath(config.shards) == of_run else ()
    process.prepare()
    from job import fit, sweep

    if len(flags.k) > 1:
        _tell(sweep.fit_each(config, flags.k, also, guard=on_sigterm), config)
    else:
        _tell(fit.fit(config, also, guard=on_sigterm), config)


def _run(flags: argparse.Namespace) -> None:
    from job.run import run

    if workers.of_environment() is not None:
        raise UserError("TF_CONFIG: run is for one machine; shard once, then fit on every worker")
    folder = storage.join(flags.output, SHARDS)
    sharding = options.from_flags(ShardConfig, vars(flags), output=folder)
    config = _fit_config(flags, shards=folder)
    _tell(run(sharding, config, flags.k, _log_level(flags), guard=on_sigterm), config)


def _tell(result: dict[str, Any], config: FitConfig) -> None:
    """Prints the summary of a fit or a sweep, unless the command is quiet."""
    if config.quiet:
        return
    from job.result.summary import fit_summary, sweep_summary

    summary = sweep_summary if "fits" in result else fit_summary
    print(summary(result, config.output))


def _report(flags: argparse.Namespace) -> None:
    from job import report
    from job.result.read import read_sweep

    if sweep := read_sweep(flags.run):
        print(report.write_sweep_page(flags.run, sweep))
    else:
        print(report.write_report(flags.run))


def _export(flags: argparse.Namespace) -> None:
    from job.export import export

    config = options.from_flags(ExportConfig, vars(flags))
    count = export(config)
    if config.what in EXPORTED_MODELS:
        if not config.quiet:
            print(config.output)
    elif not config.quiet:
        path = storage.join(config.output, f"{config.what}.csv")
        print(f"{path}: {count:,} image{'' if count == 1 else 's'}")


def _submit(flags: argparse.Namespace) -> None:
    from job.cloud.services import make_clients
    from job.cloud.submit import submit

    job = submission(flags)
    if flags.dry_run:
        print(json.dumps(job.dry_run(), indent=2, sort_keys=True))
    else:
        submit(job, flags.wait, make_clients(job.cloud.region), print)


def submission(flags: argparse.Namespace) -> "Submission":
    """Makes the job for the cloud that the flags of `submit` describe.

    Raises:
      UserError: the cloud cannot do it.
    """
    from job.cloud.config import CloudConfig
    from job.cloud.submit import Submission

    cloud = options.from_flags(CloudConfig, vars(flags))
    sharding = options.from_flags(ShardConfig, vars(flags), output=cloud.shards)
    fit = _fit_config(flags, shards=cloud.shards, output=cloud.output)
    made = Submission(cloud, sharding, fit, flags.k)
    made.check()
    return made

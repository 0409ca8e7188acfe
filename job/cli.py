"""The command line: `kmeans-job COMMAND`. Loads Beam or TensorFlow only when a command needs it."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from job import __version__, config_file
from job.config import (
    EXPORTED_MODELS,
    SHARDS,
    ExportConfig,
    FitConfig,
    parse_ks,
    sweep_configs,
)
from job.distribute import cluster, process
from job.distribute.preemption import on_sigterm
from pipeline import options, storage, streams
from pipeline.config import AssignConfig, ShardConfig
from pipeline.errors import UserError
from pipeline.terminal import (
    LOG_FORMATS,
    LOG_LEVELS,
    PROGRAM,
    Parser,
    configure,
    exit_status,
    reject_flag,
)

if TYPE_CHECKING:
    from job.cloud.submit import Submission

Command = Callable[[argparse.Namespace], None]
SHARDS_AND_RESULT = "folder for the shards, in DIR/shards, and for the result"
# What follows the name of each command, for its help.
EXAMPLES = {
    "run": "--input photos/ --image-size 64x64 --k 12 --output out/photos",
    "shard": "--input mnist.npz --num-shards 2 --output shards",
    "fit": "--shards shards --k 10 --seed 1 --output out/fit",
    "assign": "--model out/fit --input new/ --image-size 64x64 --output out/new",
    "report": "--run out/fit",
    "export": "--run out/fit --what outliers --output out/outliers",
    "submit": "--project P --region us-central1 --input gs://B/photos --k 12 --output gs://B/out",
}
EXIT_STATUS = (
    f"{PROGRAM} COMMAND --help shows the options of a command. Exit status: 0 done; 2 the input or "
    "an option is at fault, and one line says what to do; 130 after Ctrl-C and 143 after SIGTERM, "
    "and the same command resumes a fit; 1 anything else."
)
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
    parser = build_parser()
    _complete(parser)
    if arguments and (command := parser.commands.get(arguments[0])):
        arguments = [arguments[0], *config_file.with_file(arguments[1:], command)]
    flags, unknown = parser.parse_known_args(arguments)
    flags.beam_options = tuple(unknown)
    configure(_log_level(flags), flags.log_format)
    if flags.beam and unknown:
        from pipeline.transforms.runner import check_beam_flags

        check_beam_flags(unknown, flags.parser.flags())
    elif unknown:
        reject_flag(unknown[0], flags.parser.flags())
    if flags.print_config:
        print(config_file.as_file(flags, flags.parser), end="")
    else:
        flags.command(flags)


def _complete(parser: Parser) -> None:
    """Answers a shell that asks what may follow, where argcomplete is installed."""
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def _log_level(flags: argparse.Namespace) -> str:
    return "info" if flags.verbose and flags.log_level == "warning" else flags.log_level


class CommandsParser(Parser):
    """The parser of all commands.

    Attributes:
      commands: their parsers, by name.
    """

    commands: dict[str, Parser]


def build_parser() -> CommandsParser:
    """Makes the parser of all commands; `command` of what it parses runs the chosen one."""
    parser = CommandsParser(
        prog=PROGRAM,
        description="Exact K-means for large sets of images: shards → clusters.",
        epilog=EXIT_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(name: str, command: Command, text: str, beam: bool = False) -> Parser:
        about = f"{text} (options of Apache Beam are passed on to it)" if beam else text
        example = f"example: {PROGRAM} {name} {EXAMPLES[name]}"
        made = commands.add_parser(name, help=text, description=about, epilog=example)
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
    parser.commands = dict(commands.choices)
    for made in parser.commands.values():
        _add_log_flags(options.group_of(made, options.FILES))
        config_file.add_flags(options.group_of(made, options.FILES))
    return parser


def _add_log_flags(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="least severe messages to show (default: warning)",
    )
    parser.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        default=LOG_FORMATS[0],
        help="text, or a line of JSON for each message, with the fields that Cloud Logging knows "
        "(default: text)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="the same as --log-level info")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    options.add_flags(parser, ShardConfig, without=("output", "overwrite", "quiet"))
    without = ("shards", "weight_column")  # the fit's are those of the shards
    _add_fit_flags(parser, without, output=SHARDS_AND_RESULT, overwrite=REPLACE_BOTH)


def _add_fit_flags(
    parser: argparse.ArgumentParser, without: tuple[str, ...] = (), **other_help: str
) -> None:
    """Adds the flags of a fit; its `--k` takes several numbers, of which FitConfig has one."""
    options.group_of(parser, options.RESULT).add_argument(
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
    _add_fit_flags(parser, ("shards", "output", "weight_column"), overwrite=REPLACE_BOTH)
    group = options.group_of(parser, options.CLOUD)
    group.add_argument(
        "--wait", action="store_true", help="return when the fit is done, not when it is submitted"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print both requests as JSON and send nothing"
    )


def _fit_config(flags: argparse.Namespace, **given: Any) -> FitConfig:
    """Makes the config of the fit, or of the fit of the largest k if there are several."""
    group = cluster.discover(flags.cluster, os.environ)
    quiet = flags.quiet or (group is not None and group.number > 0)  # only number 0 prints
    config = options.from_flags(FitConfig, vars(flags), k=max(flags.k), quiet=quiet, **given)
    if len(flags.k) > 1:
        sweep_configs(config, flags.k)  # raises here, before any work, if a k is not allowed
    return config


def _shard(flags: argparse.Namespace) -> None:
    from pipeline.shard import shard

    shard(options.from_flags(ShardConfig, vars(flags)))


def _assign(flags: argparse.Namespace) -> None:
    from job.assign import assign
    from job.result.read import read_metrics
    from job.result.summary import assign_summary

    config = options.from_flags(AssignConfig, vars(flags))
    assign(config)
    if not config.quiet:
        print(assign_summary(read_metrics(config.output), config.output))


def _fit(flags: argparse.Namespace) -> None:
    config = _fit_config(flags)
    # The output may hold the shards of this fit, where `run` puts them, but no other ones.
    of_run = os.path.normpath(storage.join(config.output, SHARDS))
    also = (SHARDS,) if os.path.normpath(config.shards) == of_run else ()
    process.prepare(config.k, cluster.discover(config.cluster, os.environ))
    from job import fit, sweep

    if len(flags.k) > 1:
        _tell(sweep.fit_each(config, flags.k, also, guard=on_sigterm), config)
    else:
        _tell(fit.fit(config, also, guard=on_sigterm), config)


def _run(flags: argparse.Namespace) -> None:
    from job.run import run

    if group := cluster.discover(flags.cluster, os.environ):
        raise UserError(
            f"{group.source}: run is for one machine; shard once, then fit on every worker"
        )
    folder = storage.join(flags.output, SHARDS)
    sharding = options.from_flags(ShardConfig, vars(flags), output=folder)
    config = _fit_config(flags, shards=folder)
    _tell(
        run(sharding, config, flags.k, (_log_level(flags), flags.log_format), guard=on_sigterm),
        config,
    )


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

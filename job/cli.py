"""The command line: `kmeans-job COMMAND`. Loads Beam or TensorFlow only when a command needs it."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from job import __version__
from job.config import SHARDS, FitConfig, of_each, parse_ks
from job.distribute import workers
from pipeline import assign as assigning
from pipeline import shard as sharding
from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.source import add_transform_argument
from pipeline.terminal import PROGRAM, Parser, exit_status, reject_flag, without_chatter

# Flags with FitConfig's names and defaults: type, what is shown of a value, help.
FIT_FLAGS: dict[str, tuple[Callable[[str], Any], str | None, str]] = {
    "k": (
        parse_ks,
        "K",
        "number of clusters; or several, e.g. 8,10,16: each into DIR/k=…, compared in "
        "DIR/sweep.html",
    ),
    "init": (
        str,
        "random|k-means++|k-means|||CENTROIDS.npy",
        "initial centroids (default: %(default)s)",
    ),
    "seed": (int, None, "of all randomness (default: %(default)s)"),
    "restarts": (
        int,
        "R",
        "fits from different initial centroids; the lowest inertia wins (default: %(default)s)",
    ),
    "max_iterations": (int, "N", "of each restart (default: %(default)s)"),
    "tol": (
        float,
        None,
        "stop when the squared shift of the centroids is at most this (default: %(default)g, which "
        "is when no image changes cluster)",
    ),
    "algorithm": (
        str,
        "auto|lloyd|hamerly",
        "all give the same result (default: %(default)s)",
    ),
    "replicas": (int, "N", "devices to use (default: all GPUs, or one CPU)"),
    "memory": (
        str,
        "auto|resident|stream",
        "keep the images in memory, or read them in each iteration; auto: keep them if they fit "
        "(default: %(default)s)",
    ),
    "start_timeout_seconds": (
        float,
        "SECONDS",
        "how long to wait for the other workers of TF_CONFIG (default: %(default)g)",
    ),
    "checkpoint_seconds": (
        float,
        "SECONDS",
        "between two checkpoints, from which the same command goes on after a crash; 0: after "
        "every iteration (default: %(default)g)",
    ),
    "tensorboard": (str, "LOGS", "folder for what TensorBoard shows while the fit goes on"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that `arguments` (default: the process's) name; the exit status."""
    status = exit_status(lambda: _main(sys.argv[1:] if arguments is None else arguments))
    if status and _workers_number() is not None:
        # TensorFlow would wait for workers that are gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _workers_number() -> int | None:
    """The number of this process among the workers of TF_CONFIG; None where it is alone."""
    cluster = workers.parse(os.environ.get("TF_CONFIG"))
    return cluster.number if cluster else None


def _main(arguments: list[str]) -> None:
    parser = build_parser()
    args, unknown = parser.parse_known_args(arguments)
    if args.beam:
        sharding.check_beam_flags(unknown, args.parser.flags())
    elif unknown:
        reject_flag(unknown[0], args.parser.flags())
    args.command(args, unknown)


def build_parser() -> Parser:
    """The parser of every command; `args.command` runs the chosen one."""
    parser = Parser(
        prog=PROGRAM, description="Exact K-means for large sets of images: shards → clusters."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command, beam: bool, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=command, beam=beam, parser=made)
        return made

    run = add("run", _run, True, "the whole job on this machine: shard, then fit")
    sharding.add_source_arguments(run)
    add_transform_argument(run)
    run.add_argument("--output", required=True, metavar="DIR", help="folder for shards and result")
    _add_fit_arguments(run)
    shard = add("shard", _shard, True, "images → shards (options of Beam are passed on)")
    sharding.add_arguments(shard)
    fit = add("fit", _fit, False, "shards → result")
    fit.add_argument("--shards", required=True, metavar="SHARDS", help="folder of the shards")
    fit.add_argument("--output", required=True, metavar="DIR", help="folder for the result")
    _add_fit_arguments(fit)
    text = "new images → nearest centroid (options of Beam are passed on)"
    assigning.add_arguments(add("assign", _assign, True, text))
    submit = add("submit", _submit, True, "the whole job in Google Cloud: Dataflow, then Vertex AI")
    sharding.add_source_arguments(submit)
    add_transform_argument(submit)
    _add_cloud_arguments(submit)
    _add_fit_arguments(submit)
    report = add("report", _report, False, "rebuild report.html, or sweep.html, from a result")
    report.add_argument("--run", required=True, metavar="DIR", help="folder of the result or sweep")
    return parser


def _add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `fit` that `run` has too."""
    fields = {field.name: field for field in dataclasses.fields(FitConfig)}
    for name, (kind, values, text) in FIT_FLAGS.items():
        default = fields[name].default
        required = default is dataclasses.MISSING
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            required=required,
            default=None if required else default,
            metavar=values,
            help=text,
        )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a result or a checkpoint in DIR"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def _add_cloud_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say where `submit` runs a job, and on what."""
    add = parser.add_argument
    add("--project", required=True, metavar="P", help="ID of the Google Cloud project")
    add("--region", required=True, metavar="R", help="of all machines, e.g. us-central1")
    add("--output", required=True, metavar="gs://B/DIR", help="folder for shards and result")
    add("--image", metavar="URI", help="container image of this package (see: README)")
    add("--workers", type=int, default=1, metavar="N", help="machines of the fit (default: 1)")
    add(
        "--machine-type",
        metavar="TYPE",
        help="of these machines (default: e2-standard-8, or the smallest with the accelerator)",
    )
    add("--accelerator", metavar="TYPE:COUNT", help="GPUs of each, e.g. NVIDIA_L4:1")
    add(
        "--spot", action="store_true", help="cheap machines that may be taken away; the fit resumes"
    )
    add("--service-account", metavar="EMAIL", help="that all machines run as")
    add(
        "--timeout-hours",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="after which the fit is ended (default: %(default)g)",
    )
    add("--wait", action="store_true", help="until the fit is done, not only the shards")
    add("--dry-run", action="store_true", help="print both requests as JSON and send nothing")


def _config(args: argparse.Namespace, shards_folder: str) -> FitConfig:
    """The fit that the flags describe, of several k that of the largest.

    Every field of FitConfig has a flag of its name.
    """
    names = {field.name for field in dataclasses.fields(FitConfig)}
    given = {name: value for name, value in vars(args).items() if name in names}
    config = FitConfig(**{**given, "shards": shards_folder, "k": max(args.k)})
    if len(args.k) > 1:
        of_each(config, args.k)  # refused here, before any work
    return config


def _fit_flags(args: argparse.Namespace) -> list[str]:
    """The flags of `fit` among `args` that have other values than their defaults."""
    parser = Parser(add_help=False)
    _add_fit_arguments(parser)
    flags: list[str] = []
    for action in parser._actions:
        value = getattr(args, action.dest)
        if value != action.default:
            flags += action.option_strings
            flags += [] if value is True else [str(value)]
    return flags


def _submit(args: argparse.Namespace, beam_flags: list[str]) -> None:
    from job.cloud import services, submit

    # A fit that starts again with --overwrite would lose its checkpoint: `submit` removes instead.
    fit_flags = _fit_flags(argparse.Namespace(**{**vars(args), "overwrite": False}))
    asked = submit.Submission.of(args, beam_flags, fit_flags)
    _config(args, asked.config.shards)  # refused here rather than after an hour of sharding
    if args.dry_run:
        print(json.dumps(asked.dry_run(), indent=2, sort_keys=True))
    else:
        submit.submit(asked, args.wait, services.connect(asked.config), print)


def _shard(args: argparse.Namespace, beam_flags: list[str]) -> None:
    sharding.shard(args, beam_flags)


def _assign(args: argparse.Namespace, beam_flags: list[str]) -> None:
    assigning.assign(args, beam_flags)


def _fit(args: argparse.Namespace, _: list[str]) -> None:
    beside = os.path.normpath(storage.join(args.output, SHARDS))
    also = (SHARDS,) if os.path.normpath(args.shards) == beside else ()
    _fit_and_tell(_config(args, args.shards), args, also)


def _run(args: argparse.Namespace, beam_flags: list[str]) -> None:
    from job.result.folder import prepare_output

    if _workers_number() is not None:
        raise UserError("TF_CONFIG: run is for one machine; shard once, then fit on every worker")
    folder = storage.join(args.output, SHARDS)
    config = _config(args, folder)
    prepare_output(args.output, args.k, args.overwrite, (SHARDS,))
    sharding.shard_once(argparse.Namespace(**{**vars(args), "output": folder}), beam_flags)
    _fit_and_tell(config, args, (SHARDS,))


def _fit_and_tell(config: FitConfig, args: argparse.Namespace, also: tuple[str, ...]) -> None:
    with without_chatter():
        from job import fit as fitting
        from job import sweep
        from job.result.summary import fit_summary, sweep_summary

    quiet = args.quiet or bool(_workers_number())
    if len(args.k) > 1:
        text = sweep_summary(sweep.fit(config, args.k, args.overwrite, quiet, also), config.output)
    else:
        result = fitting.fit(config, args.overwrite, quiet, also)
        text = fit_summary(result, config.output)
    if not quiet:
        print(text)


def _report(args: argparse.Namespace, _: list[str]) -> None:
    from job import report
    from job.result.read import read_sweep

    if sweep := read_sweep(args.run):
        print(report.write_sweep_page(args.run, sweep))
    else:
        print(report.write_report(args.run))

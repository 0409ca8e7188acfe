"""The command `assign`: new images → nearest centroid of a finished fit."""

import argparse
import json
import re
from typing import Any

from pipeline import storage
from pipeline.features.source import transformed_again
from pipeline.shard import (
    add_source_arguments,
    note_rejected,
    open_input,
    prepare_folder,
    refuse_foreign,
    watching,
)
from pipeline.shards.manifest import MANIFEST
from pipeline.terminal import Progress
from pipeline.transforms.runner import make_pipeline, run

_TEMPORARY = rf"(\.[0-9a-f]+{re.escape(storage.TEMPORARY_SUFFIX)})?"
# Names that the output may hold, those included that a run which died leaves.
OURS = re.compile(
    rf"assignments|(rejected(-\d{{5,}}-of-\d{{5,}})?\.jsonl|manifest\.json){_TEMPORARY}"
)
OUR_ASSIGNMENTS = re.compile(rf"assignments-\d{{5,}}-of-\d{{5,}}\.parquet{_TEMPORARY}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `assign`."""
    parser.add_argument("--model", required=True, metavar="DIR", help="folder of a fit's result")
    add_source_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the assignments")
    parser.add_argument("--overwrite", action="store_true", help="replace the assignments in DIR")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def assign(args: argparse.Namespace, beam_flags: list[str]) -> None:
    """Runs the pipeline that `args` describe.

    Raises:
      UserError: the model, the input, an option or the output folder is at fault.
    """
    from pipeline.nearest import read_model

    model = storage.retrying(lambda: read_model(args.model))
    source, num_shards = open_input(args)
    if model.transform is not None:
        source = transformed_again(source, model.folder, model.transform)
    model.check(source)
    folder = storage.join(args.output, "assignments")
    refuse_foreign(folder, storage.list_names(folder), OUR_ASSIGNMENTS)
    prepare_folder(args.output, args.overwrite, OURS, "complete assignments; use them")

    def transform() -> Any:
        from pipeline.transforms.assign_images import AssignImages

        return AssignImages(source, model, args.output, num_shards, args.max_rejected)

    def num_files() -> int:
        return sum(name.endswith(".parquet") for name in storage.list_names(folder))

    with Progress("assign", num_shards, "files", args.quiet) as progress:
        with watching(folder, num_files, progress):
            run(make_pipeline(transform, beam_flags))
        progress.update(num_shards)
    manifest = json.loads(storage.read_bytes(storage.join(args.output, MANIFEST)))
    note_rejected(manifest["num_rejected"], source.num_images, args.output)

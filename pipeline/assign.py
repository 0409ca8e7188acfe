"""The command `assign`: new images → the nearest centroid of a finished fit."""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.config import AssignConfig
from pipeline.features.source import size_before, transformed_again
from pipeline.shard import (
    note_rejected,
    num_shards_of,
    opened_images,
    prepare_folder,
    refuse_foreign,
    watching,
)
from pipeline.shards.assignments import ASSIGNMENTS, AssignmentsManifest
from pipeline.shards.manifest import MANIFEST
from pipeline.sources import Listed, Planned
from pipeline.sources.protocol import AUTO, RGB
from pipeline.terminal import Progress
from pipeline.transforms.runner import make_pipeline, run_pipeline

if TYPE_CHECKING:  # it loads numpy, which --help does not need
    from pipeline.nearest import Model

_TEMPORARY = rf"(\.[0-9a-f]+{re.escape(storage.TEMPORARY_SUFFIX)})?"
# Names of the files in the output folder, and of those that an interrupted run leaves there.
OURS = re.compile(
    rf"assignments|(rejected(-\d{{5,}}-of-\d{{5,}})?\.jsonl|ids-\d{{5,}}-of-\d{{5,}}\.hashes|manifest\.json){_TEMPORARY}"
)
OUR_ASSIGNMENTS = re.compile(rf"assignments-\d{{5,}}-of-\d{{5,}}\.parquet{_TEMPORARY}")


def assign(config: AssignConfig, images: Any = None) -> AssignmentsManifest:
    """Finds the nearest centroid of `config.model` for every image of `config.input`.

    Args:
      images: what a Python caller gives instead of `config.input`, as for `shard`.

    Returns:
      The content of the assignments' manifest.json.

    Raises:
      UserError: the model, the input, an option or the output folder is at fault.
    """
    from pipeline.nearest import read_model

    model = storage.retrying(lambda: read_model(config.model))
    size = size_before(model.transform)
    with opened_images(with_colors_of(model, config), size, images) as source:
        if model.transform is not None:
            source = transformed_again(source, model.folder, model.transform)
        num_shards = num_shards_of(source, config.num_shards)
        model.check(source)
        with storage.locked(config.output):
            manifest = _write(config, model, source, num_shards, here=images is not None)
        note_rejected(manifest.num_rejected, source.num_images, config.output)
    return manifest


def _write(
    config: AssignConfig, model: "Model", source: Planned | Listed, num_shards: int, here: bool
) -> AssignmentsManifest:
    """Writes all files of the output; `here`, in this process, or else with an engine."""
    folder = storage.join(config.output, ASSIGNMENTS)
    refuse_foreign(folder, storage.list_names(folder), OUR_ASSIGNMENTS)
    prepare_folder(
        config.output, config.overwrite, OURS, "complete assignments; use them", (ASSIGNMENTS,)
    )

    with Progress("assign", num_shards, "files", config.quiet) as progress:
        run = _write_here if here else _run
        run(config, model, source, num_shards, progress)
    path = storage.join(config.output, MANIFEST)
    return AssignmentsManifest.from_json(storage.read_bytes(path))


def _run(
    config: AssignConfig, model: "Model", source: Any, num_shards: int, progress: Progress
) -> None:
    """Writes the assignments with an engine."""
    folder = storage.join(config.output, ASSIGNMENTS)

    def transform() -> Any:
        from pipeline.transforms.assign_images import AssignImages

        return AssignImages(source, model, config.output, num_shards, config.max_rejected)

    def num_files() -> int:
        return sum(name.endswith(".parquet") for name in storage.list_names(folder))

    with watching(folder, num_files, progress):
        run_pipeline(make_pipeline(transform, list(config.beam_options)))
    progress.update(num_shards)


def _write_here(
    config: AssignConfig, model: "Model", source: Any, num_shards: int, progress: Progress
) -> None:
    """Writes the assignments in this process."""
    from pipeline.in_process import write_all_assignments

    write_all_assignments(
        source, model, config.output, num_shards, config.max_rejected, progress.update
    )


def with_colors_of(model: "Model", config: AssignConfig) -> AssignConfig:
    """Returns the options with the colours of the images that the model was fitted to.

    Where `--color auto` is to decide, a few grey images are no other set than the colour photos of
    the fit. Colour is not dropped for a model of grey images, though, unless somebody asks for it.
    """
    images = model if model.transform is None else model.transform
    is_color = images.dtype == "uint8" and images.image_shape[2:] == (3,)
    return dataclasses.replace(config, color=RGB) if config.color == AUTO and is_color else config

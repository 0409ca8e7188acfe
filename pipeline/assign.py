"""The command `assign`: new images → the nearest centroid of a finished fit."""

import dataclasses
import re
from collections.abc import Callable
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
from pipeline.shards.analysis import PART_FILE, Analysis
from pipeline.shards.assignments import ASSIGNMENTS, AssignmentsManifest
from pipeline.shards.manifest import MANIFEST
from pipeline.sources.protocol import AUTO, RGB
from pipeline.terminal import Progress
from pipeline.transforms.runner import make_pipeline, run_pipeline

if TYPE_CHECKING:  # it loads numpy, which --help does not need
    from pipeline.nearest import Model

# What may follow the name of a file, where an interrupted run has left it.
_TEMPORARY = rf"(\.[0-9a-f]+{re.escape(storage.TEMPORARY_SUFFIX)})?"
OUR_ASSIGNMENTS = re.compile(rf"assignments-\d{{5,}}-of-\d{{5,}}\.parquet{_TEMPORARY}")


def assign(
    config: AssignConfig,
    images: Any = None,
    learn: Callable[[str], Analysis] | None = None,
) -> AssignmentsManifest:
    """Finds the nearest centroid of `config.model` for every image of `config.input`.

    Args:
      images: what a Python caller gives instead of `config.input`, as for `shard`.
      learn: function (folder of the model's result) → what is to be learned of the images on the
        way, if anything.

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
        analysis = None if learn is None else learn(model.folder)
        run = _write_with_engine if images is None else _write_here
        with storage.locked(config.output):
            prepare_output(config, analysis)
            with Progress("assign", num_shards, "files", config.quiet) as progress:
                run(config, model, source, num_shards, progress, analysis)
            path = storage.join(config.output, MANIFEST)
            manifest = AssignmentsManifest.from_json(storage.read_bytes(path))
        note_rejected(manifest.num_rejected, source.num_images, config.output)
    return manifest


def prepare_output(config: AssignConfig, analysis: Analysis | None) -> None:
    """Makes the output folder ready.

    Raises:
      UserError: as `prepare_folder`.
    """
    folder = storage.join(config.output, ASSIGNMENTS)
    refuse_foreign(folder, storage.list_names(folder), OUR_ASSIGNMENTS)
    ours = names_of_ours(analysis.files if analysis is not None else ())
    prepare_folder(
        config.output, config.overwrite, ours, "complete assignments; use them", (ASSIGNMENTS,)
    )


def _write_with_engine(
    config: AssignConfig,
    model: "Model",
    source: Any,
    num_shards: int,
    progress: Progress,
    analysis: Analysis | None,
) -> None:
    folder = storage.join(config.output, ASSIGNMENTS)

    def transform() -> Any:
        from pipeline.transforms.assign_images import AssignImages

        return AssignImages(source, model, config.output, num_shards, config.max_rejected, analysis)

    def num_files() -> int:
        return sum(name.endswith(".parquet") for name in storage.list_names(folder))

    with watching(folder, num_files, progress):
        run_pipeline(make_pipeline(transform, list(config.beam_options)))
    progress.update(num_shards)


def _write_here(
    config: AssignConfig,
    model: "Model",
    source: Any,
    num_shards: int,
    progress: Progress,
    analysis: Analysis | None,
) -> None:
    from pipeline.in_process import write_all_assignments

    write_all_assignments(
        source, model, config.output, num_shards, config.max_rejected, progress.update, analysis
    )


def names_of_ours(also: tuple[str, ...]) -> re.Pattern:
    """Makes the pattern of the names in the output folder, interrupted runs' included.

    Args:
      also: names of files that are written besides assignments.
    """
    numbered = r"-\d{5,}-of-\d{5,}"
    names = (
        *(rf"rejected({numbered})?\.jsonl", rf"ids{numbered}\.hashes", PART_FILE.pattern),
        *map(re.escape, (MANIFEST, *also)),
    )
    return re.compile(rf"{ASSIGNMENTS}|({'|'.join(names)}){_TEMPORARY}")


def with_colors_of(model: "Model", config: AssignConfig) -> AssignConfig:
    """Returns the options with the colours of the images that the model was fitted to.

    Where `--color auto` is to decide, a few grey images are no other set than the colour photos of
    the fit. Colour is not dropped for a model of grey images, though, unless somebody asks for it.
    """
    images = model if model.transform is None else model.transform
    is_color = images.dtype == "uint8" and images.image_shape[2:] == (3,)
    return dataclasses.replace(config, color=RGB) if config.color == AUTO and is_color else config

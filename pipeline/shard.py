"""The command `shard`: images → shards."""

import contextlib
import dataclasses
import logging
import math
import re
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pipeline import storage
from pipeline.config import InputConfig, ShardConfig
from pipeline.errors import UserError
from pipeline.features.source import (
    Transformed,
    default_size,
    is_same_transform,
    transformed,
)
from pipeline.shards import plan
from pipeline.shards.manifest import MANIFEST, TRANSFORM_FILES, Manifest, load_manifest
from pipeline.shards.rejected import REJECTED
from pipeline.sources import Listed, Planned, Source, open_request
from pipeline.terminal import Progress
from pipeline.transforms.runner import make_pipeline, run_pipeline

logger = logging.getLogger(__name__)

PROGRESS_SECONDS, REMOTE_PROGRESS_SECONDS = 0.5, 5.0
# Names of the files in a folder of shards, and of those that an interrupted run leaves there.
OURS = re.compile(
    r"(images-\d{5,}-of-\d{5,}\.tfrecord|rejected(-\d{5,}-of-\d{5,})?\.jsonl|ids-\d{5,}-of-\d{5,}\.hashes|manifest\.json|"
    rf"{'|'.join(map(re.escape, TRANSFORM_FILES))})"
    rf"(\.[0-9a-f]+{re.escape(storage.TEMPORARY_SUFFIX)})?"
)


def shard(config: ShardConfig, images: Any = None) -> Manifest:
    """Reads the images of `config.input` and writes them as shards.

    Args:
      images: what a Python caller gives instead of `config.input`, which only describes it; see
        `sources.objects`.

    Returns:
      The manifest of the shards.

    Raises:
      UserError: the input, an option or the output folder is at fault.
    """
    with opened_images(config, _size_before(config), images) as opened:
        source = _seen_through(opened, config)
        num_shards = num_shards_of(source, config.num_shards)
        with storage.locked(config.output):
            prepare_shards(config, source)
            with Progress("shard", source.num_images, "images", config.quiet) as progress:
                if images is None:
                    _run(config, source, num_shards, progress)
                else:
                    _write_here(config, source, num_shards, progress)
            return load_written(config.output)


def _run(config: ShardConfig, source: Any, num_shards: int, progress: Progress) -> None:
    """Writes the shards with an engine."""

    def on_disk() -> int:
        return images_on_disk(config.output, source.num_images, image_bytes_of(source))

    with watching(config.output, on_disk, progress):
        counted = run_pipeline(shard_pipeline(config, source, num_shards))
    progress.update(source.num_images, figures(counted, num_shards))


def figures(counted: dict[str, Any], num_shards: int) -> str:
    """Formats what the pipeline has counted, for the last line of progress.

    Args:
      counted: of WriteShard, by name; some engines leave it out.
    """
    if not {"rejected", "bytes", "shard_milliseconds"} <= counted.keys():
        return ""
    megabytes, times = counted["bytes"] / 1e6, counted["shard_milliseconds"]
    return (
        f"{counted['rejected']:,} rejected, {num_shards:,} shards of {megabytes:,.1f} MB in all, "
        f"{times.mean / 1000:.1f} s each, at most {times.max / 1000:.1f} s"
    )


def _write_here(config: ShardConfig, source: Any, num_shards: int, progress: Progress) -> None:
    """Writes the shards in this process."""
    from pipeline.in_process import write_shards

    write_shards(source, config.output, num_shards, config.max_rejected, progress.update)


def open_input(config: ShardConfig) -> Planned | Listed:
    """Opens the images that `config` names, or the vectors that its transform makes of them."""
    return _seen_through(open_images(config, _size_before(config)), config)


def _size_before(config: ShardConfig) -> tuple[int, int] | None:
    """Returns the (h, w) that the transform of `config` wants without --image-size, if any."""
    return None if config.vectors is None else default_size(config.vectors)


def _seen_through(source: Planned | Listed, config: ShardConfig) -> Planned | Listed:
    """Returns `source`, or the vectors that the transform of `config` makes of it."""
    if config.vectors is None:
        return source
    return transformed(source, config.vectors, config.output)


def open_images(config: InputConfig, size: tuple[int, int] | None = None) -> Planned | Listed:
    """Opens the images that `config` names.

    Args:
      size: (h, w) of images without --image-size; None: as they are.
    """
    request = dataclasses.replace(config.request(), default_size=size)
    return storage.retrying(lambda: open_request(request))


@contextlib.contextmanager
def opened_images(
    config: InputConfig, size: tuple[int, int] | None, images: Any = None
) -> Iterator[Planned | Listed]:
    """Opens the images that `config` names, or those that a Python caller gives.

    Args:
      size: (h, w) of images without --image-size; None: as they are.

    Raises:
      UserError: there are none, or an option does not fit them.
    """
    if images is None:
        yield open_images(config, size)
        return
    from pipeline.sources import objects

    if config.beam_options:
        raise UserError(
            f"beam_options: {config.request()} is read in this process, where no worker of an "
            "engine can see it; leave them out, or write the images to files"
        )
    request = dataclasses.replace(config.request(), default_size=size)
    with objects.opened(images, request) as source:
        yield source


def prepare_shards(config: ShardConfig, source: Source) -> None:
    """Makes the output folder ready for the shards of `source`; saves its transform there.

    Raises:
      UserError: as `prepare_folder`.
    """
    prepare_folder(config.output, config.overwrite)
    if isinstance(source, Transformed):
        source.save()


def num_shards_of(source: Source, asked: int | None, least: int = 1) -> int:
    """Returns the number of shards: `asked`, or the one that suits `source`, not below `least`.

    Raises:
      UserError: it is larger than the number of images.
    """
    if asked is None:
        suitable = plan.default_num_shards(source.num_images, image_bytes_of(source))
        # Few large images make fewer shards than their bytes would.
        asked = min(max(least, suitable), source.num_images)
    plan.check_num_shards(source.num_images, asked)
    return asked


def image_bytes_of(source: Source) -> int:
    """Returns how many bytes the pixels of an image take."""
    return math.prod(source.image_shape) * (1 if source.dtype == "uint8" else 4)


def load_written(folder: str) -> Manifest:
    """Loads the manifest of new shards; warns if images were rejected."""
    manifest = load_manifest(folder)
    note_rejected(manifest.num_rejected, manifest.num_images + manifest.num_rejected, folder)
    return manifest


def note_rejected(num_rejected: int, num_images: int, folder: str) -> None:
    """Logs a warning that says how many of the images were rejected, if any."""
    if num_rejected:
        logger.warning(
            f"{num_rejected:,} of {num_images:,} images could not be read: see "
            f"{storage.join(folder, REJECTED)}"
        )


def complete_shards(config: ShardConfig) -> Manifest | None:
    """Returns the manifest of the complete shards of the same input in the output folder.

    None if there are no complete shards, or they are to be overwritten.

    Raises:
      UserError: there are shards of another input, and no --overwrite.
    """
    path = storage.join(config.output, MANIFEST)
    if config.overwrite or not storage.is_file(path):
        return None
    found = Manifest.from_json(storage.read_bytes(path), path)
    if (
        found.source != config.request().describe()
        or config.num_shards not in (None, len(found.shards))
        or config.thumbnails != found.thumbnails
        or not is_same_transform(config.vectors, found.transform, config.output)
    ):
        raise UserError(
            f"{path}: shards of another input ({found.source}); give another --output, or "
            "--overwrite"
        )
    return found


def prepare_folder(
    folder: str,
    overwrite: bool,
    ours: re.Pattern = OURS,
    what: str = "a complete set of shards; use it",
    our_folders: Collection[str] = (),
) -> None:
    """Makes `folder` ready for new shards; removes what an interrupted run left there.

    Args:
      ours: the names that it may hold.
      what: what a complete folder holds and what to do with it, for the message.
      our_folders: those of these names that are folders.

    Raises:
      UserError: it is complete and `overwrite` is false, or it holds other files.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UserError(f"--output {folder}: a file; give a folder")
    names = storage.list_names(folder)
    refuse_foreign(folder, names, ours)
    if folders := set(storage.folders(folder) if names else ()) - set(our_folders):
        # Somebody may have unpacked something there: it would be taken for a file, and be removed.
        raise UserError(
            f"--output {folder}: holds a folder {min(folders)}; give a new or empty folder"
        )
    if MANIFEST in names and not overwrite:
        raise UserError(f"--output {folder}: holds {what}, or add --overwrite")
    # The manifest first: without it no reader takes the remaining files for a complete set.
    for name in sorted(names, key=lambda name: name != MANIFEST):
        storage.remove(storage.join(folder, name))
    storage.make_folder(folder)


def refuse_foreign(folder: str, names: list[str], ours: re.Pattern) -> None:
    """Raises UserError if one of the `names` in `folder` is not among `ours`."""
    if foreign := [name for name in names if not ours.fullmatch(name)]:
        raise UserError(
            f"--output {folder}: holds something else ({foreign[0]}); give a new or empty folder"
        )


def shard_pipeline(config: ShardConfig, source: Planned | Listed, num_shards: int) -> Any:
    """Makes the Beam pipeline from `source` to the shards of `config`; does not run it."""

    def transform() -> Any:
        from pipeline.transforms.shard_images import ShardImages

        return ShardImages(source, config.output, num_shards, config.max_rejected)

    return make_pipeline(transform, list(config.beam_options))


def images_on_disk(folder: str, num_images: int, image_bytes: int) -> int:
    """Estimates how many images are in `folder`, in shards that may not be complete yet."""
    written = sum(storage.file_sizes(folder).values())
    return min(written // image_bytes, num_images)


@contextlib.contextmanager
def watching(folder: str, count: Callable[[], int], progress: Progress) -> Iterator[None]:
    """Updates `progress` with what `count` finds in `folder` until the block ends.

    It looks at the files because the engine may write them in any process or on other machines.
    """
    done = threading.Event()
    pause = PROGRESS_SECONDS if storage.is_local(folder) else REMOTE_PROGRESS_SECONDS

    def watch() -> None:
        while not done.wait(pause):
            with contextlib.suppress(UserError):  # the writers report errors of the storage
                progress.update(count())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()

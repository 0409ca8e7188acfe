"""The command `shard`: images → shards. Also `python -m pipeline`, which needs no TensorFlow."""

import argparse
import contextlib
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.source import (
    Transformed,
    add_transform_argument,
    is_same_transform,
    transformed,
)
from pipeline.shards import manifest as shards
from pipeline.shards import plan
from pipeline.shards.rejected import DEFAULT_FRACTION, REJECTED
from pipeline.sources import Listed, Planned, Request, Source, open_source
from pipeline.terminal import (
    Parser,
    Progress,
    configure,
    exit_status,
)
from pipeline.transforms.runner import check_beam_flags, make_pipeline, run

logger = logging.getLogger(__name__)

SPLITS = ("train", "test", "all")
PROGRESS_SECONDS, REMOTE_PROGRESS_SECONDS = 0.5, 5.0
# Names that a folder of shards may hold, those included that a run which died leaves.
OURS = re.compile(
    r"(images-\d{5,}-of-\d{5,}\.tfrecord|rejected(-\d{5,}-of-\d{5,})?\.jsonl|manifest\.json|"
    rf"{'|'.join(map(re.escape, shards.TRANSFORM_FILES))})"
    rf"(\.[0-9a-f]+{re.escape(storage.TEMPORARY_SUFFIX)})?"
)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which images."""
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        action="extend",
        metavar="SPEC",
        help="digits, mnist, fashion-mnist, or paths or globs of one kind: .npz, .npy, idx files, "
        "TFRecords, Parquet, folders of images with one sub-folder per label (or none)",
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="train", help="images of which split (default: train)"
    )
    parser.add_argument(
        "--num-shards", type=int, metavar="N", help="how many shards (default: of about 64 MiB)"
    )
    parser.add_argument(
        "--image-size", type=image_size, metavar="HxW", help="resize every image, e.g. to 28x28"
    )
    parser.add_argument("--grayscale", action="store_true", help="drop the colours")
    parser.add_argument(
        "--max-rejected",
        type=fraction,
        default=DEFAULT_FRACTION,
        metavar="FRACTION",
        help="go on without images that cannot be read, up to this share (default: %(default)s)",
    )


def image_size(text: str) -> tuple[int, int]:
    """The (h, w) of HxW; raises ArgumentTypeError."""
    found = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW in pixels, e.g. 28x28")
    return int(found[1]), int(found[2])


def fraction(text: str) -> float:
    """A number from 0 to 1; raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `shard`."""
    add_source_arguments(parser)
    add_transform_argument(parser)
    parser.add_argument("--output", required=True, metavar="SHARDS", help="folder for the shards")
    parser.add_argument("--overwrite", action="store_true", help="replace the shards in SHARDS")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def shard(args: argparse.Namespace, beam_flags: list[str]) -> shards.Manifest:
    """Runs the pipeline that `args` describe; the manifest of what it wrote.

    Raises:
      UserError: the input, an option or the output folder is at fault.
    """
    source, num_shards = open_input(args)
    prepare_shards(args, source)

    def on_disk() -> int:
        return images_on_disk(args.output, source.num_images, image_bytes_of(source))

    with Progress("shard", source.num_images, "images", args.quiet) as progress:
        with watching(args.output, on_disk, progress):
            run(shard_pipeline(args, source, num_shards, beam_flags))
        progress.update(source.num_images)
    return load_written(args.output)


def open_input(args: argparse.Namespace, least_shards: int = 1) -> tuple[Planned | Listed, int]:
    """The source that `args` name, and how many shards to cut it into.

    Args:
      least_shards: that many at least, unless --num-shards was given.
    """
    source = storage.retrying(
        lambda: open_source(args.input, args.split, args.image_size, args.grayscale)
    )
    spec = vars(args).get("transform")  # `assign` has none
    if spec is not None:
        source = transformed(source, spec, args.output)
    return source, num_shards_of(source, args.num_shards, least_shards)


def prepare_shards(args: argparse.Namespace, source: Source) -> None:
    """Makes the output ready for the shards of `source`."""
    prepare_folder(args.output, args.overwrite)
    if isinstance(source, Transformed):
        source.save_model()


def num_shards_of(source: Source, asked: int | None, least: int = 1) -> int:
    """The number of shards `asked` for, or that suits `source`; UserError if it is too large."""
    if asked is None:
        asked = max(least, plan.default_num_shards(source.num_images, image_bytes_of(source)))
    plan.check_num_shards(source.num_images, asked)
    return asked


def image_bytes_of(source: Source) -> int:
    """Bytes of an image's pixels."""
    return math.prod(source.image_shape) * (1 if source.dtype == "uint8" else 4)


def load_written(folder: str) -> shards.Manifest:
    """The manifest of shards that were written just now; says how many images are not in them."""
    manifest = shards.load_manifest(folder)
    note_rejected(manifest.num_rejected, manifest.num_images + manifest.num_rejected, folder)
    return manifest


def note_rejected(num_rejected: int, num_images: int, folder: str) -> None:
    """Says on stderr how many of the images were rejected, if any."""
    if num_rejected:
        logger.warning(
            f"{num_rejected:,} of {num_images:,} images could not be read: see "
            f"{storage.join(folder, REJECTED)}"
        )


def shard_once(args: argparse.Namespace, beam_flags: list[str]) -> None:
    """`shard`, unless an earlier run with the same input has left complete shards.

    Raises:
      UserError: as `shard`; or there are shards of another input, and no --overwrite.
    """
    if complete_shards(args) is None:
        shard(args, beam_flags)


def complete_shards(args: argparse.Namespace) -> shards.Manifest | None:
    """What an earlier run with the same input has left; None if there is nothing to be kept.

    Raises:
      UserError: there are shards of another input, and no --overwrite.
    """
    path = storage.join(args.output, shards.MANIFEST)
    if args.overwrite or not storage.exists(path):
        return None
    found = shards.Manifest.from_json(storage.read_bytes(path), path)
    request = Request(tuple(args.input), args.split, args.image_size, args.grayscale)
    wanted = request.describe()
    if (
        found.source != wanted
        or args.num_shards not in (None, len(found.shards))
        or not is_same_transform(vars(args).get("transform"), found.transform)
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
) -> None:
    """Makes `folder` ready for new shards; removes what a run that died left there.

    Args:
      ours: names that it may hold.
      what: a complete folder holds, and what to do with that.

    Raises:
      UserError: it is complete and `overwrite` is false, or holds files that are not ours.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UserError(f"--output {folder}: a file; give a folder")
    names = storage.list_names(folder)
    refuse_foreign(folder, names, ours)
    if shards.MANIFEST in names and not overwrite:
        raise UserError(f"--output {folder}: holds {what}, or add --overwrite")
    # The manifest first: without it nobody takes what is left for a set.
    for name in sorted(names, key=lambda name: name != shards.MANIFEST):
        storage.remove(storage.join(folder, name))
    storage.make_folder(folder)


def refuse_foreign(folder: str, names: list[str], ours: re.Pattern) -> None:
    """Raises UserError if one of the `names` in `folder` is not among `ours`."""
    if foreign := [name for name in names if not ours.fullmatch(name)]:
        raise UserError(
            f"--output {folder}: holds something else ({foreign[0]}); give a new or empty folder"
        )


def shard_pipeline(
    args: argparse.Namespace, source: Planned | Listed, num_shards: int, beam_flags: list[str]
) -> Any:
    """The Beam pipeline from `source` to shards in `args.output`; it is not run."""

    def transform() -> Any:
        from pipeline.transforms.shard_images import ShardImages

        return ShardImages(source, args.output, num_shards, args.max_rejected)

    return make_pipeline(transform, beam_flags)


def images_on_disk(folder: str, num_images: int, image_bytes: int) -> int:
    """About how many of the images are in `folder`, in shards that may not be complete yet."""
    written = sum(storage.file_sizes(folder).values())
    return min(written // image_bytes, num_images)


@contextlib.contextmanager
def watching(folder: str, count: Callable[[], int], progress: Progress) -> Iterator[None]:
    """Shows what `count` finds in `folder`, whichever engine and process writes it."""
    done = threading.Event()
    pause = PROGRESS_SECONDS if storage.is_local(folder) else REMOTE_PROGRESS_SECONDS

    def watch() -> None:
        while not done.wait(pause):
            with contextlib.suppress(UserError):  # whoever writes there will say so
                progress.update(count())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def main(arguments: list[str] | None = None) -> int:
    """Runs `shard` with command-line `arguments`; the exit status."""

    def command() -> None:
        configure()
        parser = Parser(prog="python -m pipeline", description=__doc__)
        add_arguments(parser)
        args, beam_flags = parser.parse_known_args(arguments)
        check_beam_flags(beam_flags, parser.flags())
        shard(args, beam_flags)

    return exit_status(command)

"""What `shard` and `assign` can be asked for: frozen, checked once."""

import dataclasses
import os
import re
from typing import Any

from pipeline import options
from pipeline.options import option

SPLITS = ("train", "test", "all")
MAX_REJECTED = 0.01


def image_size(text: str) -> tuple[int, int]:
    """The (h, w) of HxW, e.g. 28x28; raises ValueError if the text is not of that form."""
    found = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not found:
        raise ValueError(f"{text!r} is not HxW in pixels, e.g. 28x28")
    return int(found[1]), int(found[2])


def fraction(text: str) -> float:
    """A number from 0 to 1; raises ValueError if the text is none."""
    try:
        value = float(text)
        _check_fraction(value)
    except ValueError:
        raise ValueError(f"{text!r} is not a number from 0 to 1") from None
    return value


def _check_fraction(value: float) -> None:
    if not 0 <= value <= 1:  # also where it is not a number
        raise ValueError("must be a number from 0 to 1")


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError("must be a height and a width in pixels, e.g. (28, 28)")


def transform(text: str) -> str:
    """The value of --transform; raises ValueError if there is no such transform."""
    from pipeline.features.source import specification  # numpy, which help does not need

    return specification(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputConfig:
    """Which images, and how they are read: what `shard` and `assign` have in common.

    The fields describe themselves; their names are those of the flags.
    """

    input: tuple[str, ...] = option(
        metavar="SPEC",
        help="digits, mnist, fashion-mnist, or paths or globs of one kind: .npz, .npy, idx files, "
        "TFRecords, Parquet, folders of images with one sub-folder per label (or none)",
    )
    split: str = option("train", choices=SPLITS, help="images of which split")
    num_shards: int | None = option(
        None, metavar="N", help="how many shards (default: of about 64 MiB)"
    )
    image_size: tuple[int, int] | None = option(
        None,
        metavar="HxW",
        parse=image_size,
        check=_check_size,
        help="resize every image, e.g. to 28x28",
    )
    grayscale: bool = option(False, help="drop the colours")
    max_rejected: float = option(
        MAX_REJECTED,
        metavar="FRACTION",
        parse=fraction,
        check=_check_fraction,
        help="go on without images that cannot be read, up to this share",
    )
    overwrite: bool = option(False, help="replace what is in the output folder")
    quiet: bool = option(False, help="no progress")
    beam_options: tuple[str, ...] = option(
        (), is_flag=False, help="options of Apache Beam as they stand on a command line"
    )

    def __post_init__(self) -> None:
        paths: Any = self.input
        if isinstance(paths, str | os.PathLike):
            paths = (paths,)
        object.__setattr__(self, "input", tuple(map(os.fspath, paths)))
        object.__setattr__(self, "beam_options", tuple(self.beam_options))
        options.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardConfig(InputConfig):
    """What `shard` is asked for."""

    output: str = option(metavar="SHARDS", help="folder for the shards")
    transform: str | None = option(
        None,
        metavar="pca:N|keras:PATH",
        parse=transform,
        check=transform,
        help="cluster vectors instead of pixels: N principal components, or what a saved Keras "
        "model makes of each image",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssignConfig(InputConfig):
    """What `assign` is asked for."""

    model: str = option(metavar="DIR", help="folder of a fit's result")
    output: str = option(metavar="DIR", help="folder for the assignments")

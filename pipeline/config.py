"""The options of `shard` and `assign`: frozen, checked once."""

import dataclasses
import os
import re
from typing import Any

from pipeline import options
from pipeline.errors import UserError
from pipeline.features import FORMS, specification, transform_help, with_unit
from pipeline.options import IMAGES, option
from pipeline.shards.rejected import DEFAULT_FRACTION
from pipeline.sources.formats import input_help
from pipeline.sources.protocol import (
    AUTO,
    COLORS,
    GRAY,
    MAX_PIXELS,
    NO_WEIGHTS,
    RESIZES,
    STRETCH,
    Request,
)

DEFAULT_THUMBNAILS = 96
SPLITS = ("train", "test", "all")


def image_size(text: str) -> tuple[int, int]:
    """Parses HxW, e.g. 28x28, to (h, w); raises ValueError if the text has another form."""
    found = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not found:
        raise ValueError(f"{text!r} is not HxW in pixels, e.g. 28x28")
    size = int(found[1]), int(found[2])
    _check_size(size)
    return size


def fraction(text: str) -> float:
    """Parses a number from 0 to 1; raises ValueError if the text is none."""
    try:
        value = float(text)
        _check_fraction(value)
    except ValueError:
        raise ValueError(f"{text!r} is not a number from 0 to 1") from None
    return value


def _check_fraction(value: float) -> None:
    if not 0 <= value <= 1:  # also refuses NaN
        raise ValueError("must be a number from 0 to 1")


def _check_size(size: tuple[int, int]) -> None:
    numbers = isinstance(size, tuple | list) and all(isinstance(n, int) for n in size)
    if not numbers or len(size) != 2 or min(size) < 1:
        raise ValueError("must be a height and a width in pixels, e.g. (28, 28)")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{size[0]}x{size[1]} are {size[0] * size[1]:,} pixels; at most {MAX_PIXELS:,} can be"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputConfig:
    """The options that `shard` and `assign` share: which images, and how they are read.

    Each field carries its own description; a field and its flag have the same name.
    """

    input: tuple[str, ...] = option(metavar="SPEC", help=input_help(), group=IMAGES)
    split: str = option(
        "train", choices=SPLITS, help="which split of the images to read", group=IMAGES
    )
    num_shards: int | None = option(
        None, metavar="N", least=1, help="number of shards (default: so that each has about 64 MiB)"
    )
    image_size: tuple[int, int] | None = option(
        None,
        metavar="HxW",
        parse=image_size,
        check=_check_size,
        help="resize every image to this height and width, e.g. 28x28",
        group=IMAGES,
    )
    resize: str = option(
        STRETCH,
        choices=RESIZES,
        help="what --image-size does to images of another aspect ratio: distort them, cut them to "
        "the centre, or pad them with black",
        group=IMAGES,
    )
    color: str = option(
        AUTO,
        choices=COLORS,
        help="colours of the images; auto: grey where all images are grey, else RGB for all",
        group=IMAGES,
    )
    grayscale: bool = option(False, help="short for --color gray", group=IMAGES)
    image_column: str | None = option(
        None,
        metavar="NAME",
        help="column, feature or array that holds the images (default: the usual names)",
        group=IMAGES,
    )
    label_column: str | None = option(
        None,
        metavar="NAME|none",
        help="column, feature or array that holds the labels (default: the usual names); none: "
        "read no labels",
        group=IMAGES,
    )
    max_rejected: float = option(
        DEFAULT_FRACTION,
        metavar="FRACTION",
        parse=fraction,
        check=_check_fraction,
        help="largest share of images that may be unreadable; they are left out and listed in "
        "rejected.jsonl",
        group=IMAGES,
    )
    thumbnails: int = option(
        DEFAULT_THUMBNAILS,
        metavar="PIXELS",
        least=0,
        help="longer side of the small pictures that are kept for the report, where vectors are "
        "clustered or images are larger; 0: none",
        group=IMAGES,
    )
    overwrite: bool = option(False, help="replace what is in the output folder")
    quiet: bool = option(False, help="show no progress")
    beam_options: tuple[str, ...] = option(
        (), is_flag=False, help="options of Apache Beam, as words of a command line"
    )

    def __post_init__(self) -> None:
        paths: Any = self.input
        if isinstance(paths, str | os.PathLike):
            paths = (paths,)
        object.__setattr__(self, "input", tuple(map(os.fspath, paths)))
        object.__setattr__(self, "beam_options", tuple(self.beam_options))
        options.check(self)
        if self.grayscale:
            if self.color not in (AUTO, GRAY):
                raise UserError(f"--grayscale, --color {self.color}: give one of them")
            object.__setattr__(self, "color", GRAY)
            object.__setattr__(self, "grayscale", False)
        if self.resize != STRETCH and self.image_size is None:
            raise UserError(f"--resize {self.resize}: needs a size; add --image-size HxW")

    def request(self) -> Request:
        """Returns the images that the options name, and how they are read."""
        names = {field.name for field in dataclasses.fields(Request)} - {"inputs"}
        mine = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return Request(self.input, **mine)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardConfig(InputConfig):
    """The options of `shard`."""

    output: str = option(metavar="SHARDS", help="folder for the shards")
    transform: str | None = option(
        None,
        metavar="|".join(FORMS),
        parse=specification,
        check=specification,
        help=transform_help(),
        group=IMAGES,
    )
    normalize: bool = option(
        False,
        help="scale vectors to length 1, so that clusters are by cosine distance",
        group=IMAGES,
    )

    weight_column: str | None = option(
        None,
        metavar=f"NAME|{NO_WEIGHTS}",
        help="column, feature or array that holds the weights: an image of weight w counts as w "
        f"equal ones (default: {NO_WEIGHTS}: all count once)",
        group=IMAGES,
    )

    @property
    def vectors(self) -> str | None:
        """What is made of the images, in all its steps; None: they are clustered themselves."""
        return with_unit(self.transform, self.normalize)

    @property
    def becomes_vectors(self) -> bool:
        """Whether vectors are clustered."""
        return self.vectors is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssignConfig(InputConfig):
    """The options of `assign`."""

    model: str = option(metavar="DIR", help="folder of a fit's result")
    output: str = option(metavar="DIR", help="folder for the assignments")
    weight_column: str | None = option(
        None,
        metavar="NAME",
        help="column that holds weights, as of a CSV file, and is no part of the images; all of "
        "them count once",
        group=IMAGES,
    )

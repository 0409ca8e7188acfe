"""The usual names of columns, features and arrays, and the choice among those that are there."""

import logging
from collections.abc import Sequence

from pipeline.errors import UserError
from pipeline.sources.protocol import NO_LABELS, Request

logger = logging.getLogger(__name__)

# Where several are there, the first counts.
IMAGE_NAMES = (
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "pixel_values",
    "images",
    "pixels",
    "x",
    "data",
    "features",
    "embedding",
    "embeddings",
)
LABEL_NAMES = ("label", "labels", "class", "fine_label", "digit", "target", "targets", "y")
_SHOWN_NAMES = 300  # characters, in messages


def image_column(names: Sequence[str], fitting: Sequence[str], request: Request, path: str) -> str:
    """Chooses the column of images.

    Args:
      names: of all columns.
      fitting: those that may hold images.

    Raises:
      UserError: there is none, or the one that is asked for may not hold images.
    """
    if (asked := request.image_column) is not None:
        _check_there(asked, names, "--image-column", path)
        if asked not in fitting:
            raise UserError(
                f"--image-column {asked}: {path} has no images there; they are encoded (binary, "
                "or a struct with bytes or path), or lists of numbers"
            )
        return asked
    usual = _usual(fitting, IMAGE_NAMES)
    if not usual:
        raise UserError(
            f"{path}: no column of images or numbers under a usual name "
            f"({', '.join(IMAGE_NAMES[:4])}, …), only {shown(names)}; name one with --image-column"
        )
    if len(usual) > 1:
        _say(request, "images", usual, "--image-column")
    return usual[0]


def label_column(names: Sequence[str], request: Request, path: str) -> str | None:
    """Chooses the column of labels; None if there is none, or none is wanted.

    Raises:
      UserError: the one that is asked for is not there.
    """
    asked = request.label_column
    if asked == NO_LABELS:
        return None
    if asked is not None:
        _check_there(asked, names, "--label-column", path)
        return asked
    usual = _usual(names, LABEL_NAMES)
    if len(usual) > 1:
        _say(request, "labels", usual, "--label-column")
    return usual[0] if usual else None


def weight_column(names: Sequence[str], request: Request, path: str) -> str | None:
    """Returns the column of weights; None if none is wanted.

    Raises:
      UserError: it is not there.
    """
    if not request.wants_weights:
        return None
    asked = str(request.weight_column)
    _check_there(asked, names, "--weight-column", path)
    return asked


def shown(names: Sequence[str]) -> str:
    """Lists names, for messages."""
    text = ", ".join(names) or "nothing"
    return text if len(text) <= _SHOWN_NAMES else text[:_SHOWN_NAMES] + "…"


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Returns the `names` that are `usual` ones, in the order of these, whatever their case."""
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(name.lower(), []).append(name)
    return [name for each in usual for name in by_name.get(each, ())]


def _check_there(asked: str, names: Sequence[str], flag: str, path: str) -> None:
    if asked not in names:
        raise UserError(f"{flag} {asked}: {path} has no such column, only {shown(names)}")


def _say(request: Request, what: str, usual: list[str], flag: str) -> None:
    logger.warning(
        f"--input {request}: {what} are read from {usual[0]}, not from {', '.join(usual[1:])}; "
        f"{flag} chooses another"
    )

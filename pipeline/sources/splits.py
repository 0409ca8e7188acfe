"""Splits that names of files and folders tell: train-00000-of-00002.parquet, test/cat/1.png."""

import logging
import re
from collections.abc import Sequence

from pipeline.errors import UserError
from pipeline.sources.protocol import Request

logger = logging.getLogger(__name__)

# Split → words that stand for it.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "t10k"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
}
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_OF)})(?![a-z])")


def split_named(word: str) -> str | None:
    """Returns the split that a folder of this name is: "train", "test", "validation" or None."""
    return _SPLIT_OF.get(word.lower())


def split_in(path: str) -> str | None:
    """Returns the split that a path tells, by its last word that stands for one."""
    words = _WORD.findall(path.lower())
    return _SPLIT_OF[words[-1]] if words else None


def of_split(names: Sequence[str], splits: Sequence[str], request: Request) -> list[str]:
    """Chooses the names that belong to the request's split; says which splits there are.

    Args:
      splits: of the names.

    Raises:
      UserError: there are none.
    """
    there = ", ".join(sorted(set(splits)))
    if request.split != "all" and request.split not in splits:
        raise UserError(
            f"--split {request.split}: {request} has only {there}; give a --split that it has, or "
            "all"
        )
    if len(set(splits)) > 1 or request.split == "all":
        logger.warning(f"--input {request}: read as splits: {there}; --split is {request.split}")
    return [
        name for name, split in zip(names, splits, strict=True) if request.split in ("all", split)
    ]

"""Samples of WebDataset: files of an archive that share a key, such as 0001.jpg and 0001.cls.

A key is a path up to the first dot of its last part; the files of a sample follow each other.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.sources.archives.member import Member, NoFile
from pipeline.sources.columns import LABEL_NAMES
from pipeline.sources.formats import IMAGE_ENDING
from pipeline.sources.labels import Label, plain
from pipeline.sources.protocol import Request
from pipeline.sources.skipped import HIDDEN, Skipped

_IMAGE = re.compile(f".*{IMAGE_ENDING}", re.DOTALL)
CLASS, JSON = "cls", "json"
_INTEGER = re.compile(r"[+-]?\d{1,19}")


class Sample(NamedTuple):
    """The files of an archive that share a key.

    Attributes:
      start: an offset from which the archive can be read so that this is the first sample.
      others: the files that are no images.
    """

    start: int
    images: list[Member | NoFile]
    others: list[Member | NoFile]


def samples(
    members: Iterable[Member | NoFile], request: Request, skipped: Skipped | None = None
) -> Iterator[Sample]:
    """Groups files by their keys, one sample in memory at a time; hidden files are left out.

    Args:
      skipped: counts these.
    """
    key, sample = None, None
    for member in members:
        if _is_hidden(member.name):
            if skipped is not None:
                skipped[HIDDEN] += 1
            continue
        if (found := key_of(member.name)) != key or sample is None:
            if sample is not None:
                yield sample
            key, sample = found, Sample(member.start, [], [])
        (sample.images if _is_image(member.name, request) else sample.others).append(member)
    if sample is not None:
        yield sample


def key_of(name: str) -> str:
    """Returns the key of a file: a/0001 of a/0001.seg.png."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.partition(".")[0])


def field_of(name: str) -> str:
    """Returns what follows the key: seg.png of a/0001.seg.png."""
    return os.path.basename(name).partition(".")[2].lower()


def label_of(sample: Sample, request: Request, where: str) -> Label | None:
    """Returns the label of a sample: of its .cls, a usual key of its .json, or what is asked for.

    Raises:
      UserError: it is neither an integer nor a name.
      ValueError: the archive is damaged.
    """
    by_field = {field_of(each.name): each for each in sample.others if isinstance(each, Member)}
    asked = request.label_column
    for field in (asked,) if asked else (CLASS,):
        if field in by_field:
            text = by_field[field].read().decode("utf-8", "backslashreplace").strip()
            return plain(int(text) if _INTEGER.fullmatch(text) else text or None, where)
    if JSON not in by_field:
        return None
    facts = _facts(by_field[JSON], where)
    for name in (asked,) if asked else LABEL_NAMES:
        if name in facts:
            return plain(facts[name], where)
    return None


def skip_others(sample: Sample, request: Request, skipped: Skipped) -> None:
    """Counts the files of a sample that are neither images nor may hold its label."""
    used = {CLASS, JSON, request.label_column} if sample.images else set()
    for each in sample.others:
        if field_of(each.name) not in used:
            skipped.add(each.name)


def _facts(member: Member, where: str) -> dict[str, Any]:
    try:
        facts = json.loads(member.read())
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{where}: {member.name} is no JSON; mend it") from None
    return facts if isinstance(facts, dict) else {}


def _is_image(name: str, request: Request) -> bool:
    if request.image_column:
        return field_of(name) == request.image_column.lower()
    return _IMAGE.fullmatch(name) is not None


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != "." for part in name.split("/"))

"""From the values of `--input` to an open source."""

import dataclasses
import glob
import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.sources.formats import (
    FORMATS,
    IMAGES,
    NAMED_SETS,
    Format,
    format_of,
    loaded,
    named_like,
)
from pipeline.sources.protocol import Listed, Planned, Request
from pipeline.sources.skipped import Skipped, describes_set, is_hidden
from pipeline.sources.splits import of_split, split_in

logger = logging.getLogger(__name__)


class Files(NamedTuple):
    """What one value of `--input` leads to.

    Attributes:
      paths: files of the format, or a folder that its module takes as a whole.
      skipped: files of the folder that are not read.
      are_split: whether they are those of a split, chosen by their names.
    """

    format: Format
    paths: list[str]
    skipped: Skipped
    are_split: bool = False


def open_source(inputs: str | Sequence[str], split: str = "train", **others: Any) -> Any:
    """Opens the source that `inputs` name, as `open_request` does.

    Args:
      others: of the fields of Request.
    """
    inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    return open_request(Request(inputs, split, **others))


def open_request(request: Request) -> Planned | Listed:
    """Opens the source that a request names: the name of a set, or paths and globs of one format.

    Raises:
      UserError: no such set, file, split or column, or a file that is not what its name says.
    """
    inputs = request.inputs
    if len(inputs) == 1 and inputs[0] in NAMED_SETS:
        _refuse_columns(request, "a named set")
        _refuse_weights(request, "a named set")
        # Not at the top: it loads arrays' and images' modules, which other formats do not need.
        from pipeline.sources.builtin import open_named

        return open_named(request)
    skipped = Skipped()
    paths = _once([path for spec in inputs for path in _expanded(spec, skipped)], request)
    found = [_files(path, request) for path in paths]
    formats = {each.format.name: each.format for each in found}
    if len(formats) > 1:
        kinds = ", ".join(sorted(formats))
        raise UserError(f"--input {request}: of several kinds ({kinds}); give one kind")
    (only,) = formats.values()
    if not only.has_columns:
        _refuse_columns(request, only.name)
    if not only.has_weights:
        _refuse_weights(request, only.name)
    if not (only.has_splits or all(each.are_split for each in found)):
        request.refuse_test_split()
    source = loaded(only.opens)(request, [path for each in found for path in each.paths])
    for each in found:
        skipped.update(each.skipped)
    skipped.say(request)
    return dataclasses.replace(source, num_skipped=source.num_skipped + skipped.total())


def _refuse_columns(request: Request, what: str) -> None:
    """Raises UserError if a column is named of images that have no columns."""
    for name in ("image_column", "label_column"):
        value = getattr(request, name)
        if value is not None and (name == "image_column" or request.wants_labels):
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {value}: {request} ({what}) has no columns; leave it out")


def _refuse_weights(request: Request, what: str) -> None:
    """Raises UserError if a column of weights is named of images that have none."""
    if request.wants_weights:
        kinds = ", ".join(each.name for each in FORMATS if each.has_weights)
        raise UserError(
            f"--weight-column {request.weight_column}: {request} ({what}) has no column of "
            f"weights; those of {kinds} are read: write one of these, or leave it out"
        )


def _files(path: str, request: Request) -> Files:
    """Finds the files that a path leads to: itself, or what lies in the folder.

    Where there are images in a folder, these are its content; else it must be of one kind.
    """
    if not storage.is_folder(path):
        return Files(format_of(path), [path], Skipped())
    by_format: dict[str, list[str]] = {}
    skipped = Skipped()
    for name in storage.walk(path, hidden=True):
        is_none = is_hidden(name) or describes_set(name.rpartition("/")[2])
        if (kind := None if is_none else named_like(name)) is None:
            skipped.add(name)
        elif kind is IMAGES:
            return Files(IMAGES, [path], Skipped())
        else:
            by_format.setdefault(kind.name, []).append(name)
    if not by_format:
        return Files(IMAGES, [path], Skipped())  # which says that there are none
    if len(by_format) > 1:
        kinds = ", ".join(sorted(by_format))
        raise UserError(
            f"--input {path}: a folder of several kinds ({kinds}); give one kind, e.g. "
            f"'{storage.join(path, sorted(next(iter(by_format.values())))[0])}'"
        )
    ((kind_name, names),) = by_format.items()
    kind = next(each for each in FORMATS if each.name == kind_name)
    if kind.takes_folders:
        return Files(kind, [path], skipped)
    names.sort()
    splits = [split for name in names if (split := split_in(name))]
    are_split = not kind.has_splits and len(splits) == len(names)
    if are_split:
        names = of_split(names, splits, request)
    return Files(kind, [storage.join(path, name) for name in names], skipped, are_split)


def _once(paths: list[str], request: Request) -> list[str]:
    """Leaves out paths to what an earlier path leads to; says so, because it may be a mistake.

    Globs may overlap, links lead to the same file, and a file may lie packed beside itself.
    """
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(storage.identity(path), path)
    given = set(first.values())
    once = [path for path in first.values() if not (path[-3:] == ".gz" and path[:-3] in given)]
    if left := len(paths) - len(once):
        kept = set(once)
        example = next((path for path in paths if path not in kept), paths[0])
        logger.warning(
            f"--input {request}: {left} of {len(paths)} paths lead to files that others lead to "
            f"as well, e.g. {example}; each file is read once"
        )
    return once


def _expanded(spec: str, skipped: Skipped) -> list[str]:
    """Returns the paths that one value of `--input` stands for.

    A file whose name looks like a pattern is taken as the file.

    Args:
      skipped: counts the files that a pattern matches beside those of known formats.
    """
    if storage.exists(spec):
        return [spec]
    if spec in NAMED_SETS:
        raise UserError(f"--input {spec}: a named set cannot be joined with others; give it alone")
    if not glob.has_magic(spec):
        names = ", ".join(sorted(NAMED_SETS))
        raise UserError(f"--input {spec}: no such file, nor one of the named sets ({names})")
    if found := storage.matching(spec):
        known = [path for path in found if named_like(path) or storage.is_folder(path)]
        for path in set(found) - set(known) if known else ():
            skipped.add(os.path.basename(path))
        return known or found
    raise UserError(f"--input {spec}: matches no file; check the pattern and quote it")

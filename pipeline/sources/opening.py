"""From the values of `--input` to an open source."""

import glob
import logging
from collections.abc import Sequence

from pipeline import storage
from pipeline.errors import UserError
from pipeline.sources.formats import NAMED_SETS, format_of, loaded
from pipeline.sources.protocol import Listed, Planned, Request

logger = logging.getLogger(__name__)


def open_source(
    inputs: str | Sequence[str],
    split: str = "train",
    image_size: tuple[int, int] | None = None,
    grayscale: bool = False,
) -> Planned | Listed:
    """Opens the source that `inputs` name: the name of a set, or paths and globs of one format.

    Args:
      split: "train", "test" or "all".
      image_size: (h, w) that every image is resized to.
      grayscale: whether colours are dropped.

    Raises:
      UserError: no such set, file or split, or a file that is not what its name says.
    """
    inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    request = Request(inputs, split, image_size, grayscale)
    if len(inputs) == 1 and inputs[0] in NAMED_SETS:
        # Not at the top: it loads arrays' and images' modules, which other formats do not need.
        from pipeline.sources.builtin import open_named

        return open_named(request)
    paths = _once([path for spec in inputs for path in _expanded(spec)], request)
    formats = {each.name: each for each in map(format_of, paths)}
    if len(formats) > 1:
        kinds = ", ".join(sorted(formats))
        raise UserError(f"--input {request}: of several kinds ({kinds}); give one kind")
    (only,) = formats.values()
    return loaded(only.opens)(request, paths)


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


def _expanded(spec: str) -> list[str]:
    """Returns the paths that one value of `--input` stands for.

    A file whose name looks like a pattern is taken as the file.
    """
    if storage.exists(spec):
        return [spec]
    if spec in NAMED_SETS:
        raise UserError(f"--input {spec}: a named set cannot be joined with others; give it alone")
    if not glob.has_magic(spec):
        names = ", ".join(sorted(NAMED_SETS))
        raise UserError(f"--input {spec}: no such file, nor one of the named sets ({names})")
    if found := storage.matching(spec):
        return found
    raise UserError(f"--input {spec}: matches no file; check the pattern and quote it")

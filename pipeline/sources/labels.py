"""What a label of the input is: an integer, a name, or none; and its number in the shards.

In the shards a label is its place in the list of names, −1 where an image has none. Integers that
are all 0 … 65,535 are their own numbers. Others are numbered in sorted order and named by their
digits, because a list of all names up to the largest would be too long.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.sources.checks import digit_names, text_of

MAX_LABEL = 65_535  # of integers that are their own numbers
MAX_LABELS = 65_536
MAX_NAME_BYTES = 4_096
NONE = -1

Label = int | str


class Unnamed(NamedTuple):
    """A label met by a worker that has no number yet: it is numbered when all images are read."""

    label: Label


def plain(value: Any, where: str) -> Label | None:
    """Returns a label as an integer or a name; None where there is none.

    −1, None and NaN are none. Integral floats and booleans are integers. Several values are a
    label if exactly one is 1 and the others are 0: its place.

    Raises:
      UserError: it is something else.
    """
    match value:
        case None:
            return None
        case str():
            return _checked(value, where)
        case bytes():
            return _checked(text_of(value), where)
        case np.generic():
            return plain(value.item(), where)
        case int() | float():
            return _integer(value, where)
        case list() | tuple() | np.ndarray():
            values = np.ravel(value).tolist()
            return plain(values[0], where) if len(values) == 1 else _place(values, where)
    raise UserError(
        f"{where}: a label of type {type(value).__name__}; integers or names are needed"
    )


def plain_array(values: np.ndarray, where: str) -> np.ndarray:
    """Returns labels [n], [n, 1] or one-hot [n, c] as int64 [n] with −1 for none, or as text [n].

    Raises:
      UserError: they are none of these.
    """
    if math.prod(values.shape[1:]) != 1:
        return _places(values, where)
    flat = values.reshape(len(values))
    if flat.dtype.kind in "US":
        return np.array([plain(value, where) for value in flat.tolist()])
    if flat.dtype.kind not in "iufb":
        raise UserError(f"{where}: labels of dtype {flat.dtype}; integers or texts are needed")
    if flat.dtype.kind == "f":
        flat = flat.astype(np.float64)
        flat[np.isnan(flat)] = NONE
    if (wrong := _no_int64(flat)).any():
        _integer(flat[wrong][0].item(), where)
    return flat.astype(np.int64)


def number_of(label: Label | None, numbers: Mapping[str, int]) -> int | None:
    """Returns the number of a label; None if it has none yet, −1 for no label.

    Args:
      numbers: by name; empty where integers 0 … MAX_LABEL are their own numbers.
    """
    if label is None:
        return NONE
    if numbers:
        return numbers.get(str(label))
    return label if isinstance(label, int) and 0 <= label <= MAX_LABEL else None


def names_of(labels: Iterable[Label], where: str) -> tuple[str, ...]:
    """Returns the names of distinct `labels` in the order of their numbers.

    () if integers are their own numbers.

    Raises:
      UserError: names and integers are mixed, or there are too many.
    """
    distinct = set(labels)
    integers = {label for label in distinct if isinstance(label, int)}
    texts = {label for label in distinct if isinstance(label, str)}
    if integers and texts:
        raise UserError(
            f"{where}: labels of two kinds, integers like {min(integers)} and names like "
            f"{min(texts)}; give one kind"
        )
    if len(integers) + len(texts) > MAX_LABELS:
        raise UserError(
            f"{where}: more than {MAX_LABELS:,} different labels; leave them out or join some"
        )
    if texts:
        return tuple(sorted(texts))
    if not integers or (min(integers) >= 0 and max(integers) <= MAX_LABEL):
        return ()
    return tuple(map(str, sorted(integers)))


def names_in(parts: Sequence[np.ndarray], where: str) -> tuple[str, ...] | None:
    """Returns the names of the labels in `parts`, each as of `plain_array`.

    Names of 0, 1, … are written out up to the largest. None if there is no label.

    Raises:
      UserError: as `names_of`.
    """
    distinct = {label for part in parts for label in np.unique(part).tolist()} - {NONE}
    if not distinct:
        return None
    return names_of(distinct, where) or digit_names(1 + max(distinct))


def numbered(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns the numbers of `labels`, as of `plain_array`, whose names are among `names`."""
    if labels.dtype.kind == "U":
        return np.searchsorted(np.array(names), labels).astype(np.int64)
    if names[0] == "0" and names[-1] == str(len(names) - 1):
        return labels  # they are 0, 1, …
    values = np.array([int(name) for name in names], np.int64)
    return np.where(labels == NONE, NONE, np.searchsorted(values, labels))


def _integer(value: int | float, where: str) -> int | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    if not -(1 << 63) <= value < 1 << 63 or value != int(value):
        raise UserError(f"{where}: a label of {value}; 64-bit integers or names are needed")
    return None if value == NONE else int(value)


def _checked(name: str, where: str) -> str:
    if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
        raise UserError(
            f"{where}: a label of more than {MAX_NAME_BYTES:,} bytes, {name[:20]}…; shorten it"
        )
    return name


def _place(values: list[Any], where: str) -> int:
    """Returns the place of the 1 in a one-hot label."""
    if len(values) > 1 and values.count(1) == 1 and values.count(0) == len(values) - 1:
        return values.index(1)
    shown = ", ".join(map(str, values[:6])) + (", …" if len(values) > 6 else "")
    raise UserError(
        f"{where}: a label of {len(values)} values ({shown}), which is not one-hot (one 1, "
        "others 0); give one label for each image"
    )


def _places(values: np.ndarray, where: str) -> np.ndarray:
    """Returns the places of the ones in one-hot labels [n, c]."""
    rows = values.reshape(len(values), -1)
    good = ((rows == 1).sum(axis=1) == 1) & ((rows == 0).sum(axis=1) == rows.shape[1] - 1)
    if not good.all():
        _place(rows[int(np.argmin(good))].tolist(), where)
    return (rows == 1).argmax(axis=1).astype(np.int64)


def _no_int64(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return (values != np.floor(values)) | (np.abs(values) >= 2.0**63)
    if values.dtype == np.uint64:
        return values > np.uint64((1 << 63) - 1)
    return np.zeros(len(values), bool)

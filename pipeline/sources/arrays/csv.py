"""CSV files with an image in each line: a label and pixels, as of Kaggle's MNIST.

A CSV file has no index. It is read once to count its lines, to keep the offset of every 1,024th,
and to see whether all pixels are bytes, so that a piece can begin near its first line.
"""

import csv
import dataclasses
import itertools
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import MAX_PIXEL, short_names
from pipeline.sources.columns import LABEL_NAMES, label_column, weight_column
from pipeline.sources.labels import NONE, Label, Unnamed, names_of, number_of, plain
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.rows import Item, blocks, settle
from pipeline.sources.weights import weight_in_text

logger = logging.getLogger(__name__)

STRIDE = 1024  # lines from one whose offset is kept to the next
MAX_LINE_BYTES = 1 << 26
_SEPARATORS = b",;\t "
_INTEGER = re.compile(r"[+-]?\d{1,19}")


class Layout(NamedTuple):
    """Which columns of a CSV file hold what.

    Attributes:
      num_columns: of a line.
      label: place of the column of labels; None if there is none.
      pixels: places of the columns of pixels; one, if its text holds all pixels.
      separator: between the pixels of an image.
      num_pixels: of an image.
      weight: place of the column of weights; None if none are read.
    """

    delimiter: str
    has_header: bool
    num_columns: int
    label: int | None
    pixels: tuple[int, ...]
    separator: str
    num_pixels: int
    weight: int | None = None


class CsvFile(NamedTuple):
    """A CSV file.

    Attributes:
      name: the beginning of the ids of its images.
      offsets: in bytes, of the lines 0, STRIDE, 2 · STRIDE, …, without the header.
    """

    path: str
    name: str
    layout: Layout
    num_rows: int
    offsets: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class CsvSource:
    """Images in CSV files, one a line, numbered through all files."""

    request: Request
    files: tuple[CsvFile, ...]
    label_names: tuple[str, ...] | None
    image_shape: tuple[int, ...]
    dtype: str
    stored_shape: tuple[int, ...]
    color: str = AUTO
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        return sum(file.num_rows for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        return blocks(self.items(piece), self, self.label_names is not None)

    def items(self, piece: plan.Piece) -> Iterator[Item]:
        """Reads the images of a piece, one by one."""
        numbers = {name: index for index, name in enumerate(self.label_names or ())}
        for index, start, stop in plan.overlaps(piece, (f.num_rows for f in self.files)):
            file = self.files[index]
            for row, fields in _rows(file, start, stop):
                number: int | None = NONE
                if file.layout.label is not None and self.label_names is not None:
                    label = _label(fields, file.layout, f"{file.path}: row {row}")
                    number = number_of(label, numbers)
                yield Item(
                    f"{file.name}/{row:05d}",
                    NONE if number is None else number,
                    self._pixels(fields, file.layout),
                    _weight(fields, file.layout, f"{file.path}: row {row}"),
                )

    def _pixels(self, fields: list[str], layout: Layout) -> np.ndarray | Unreadable:
        """Returns the pixels in a line, or why there are none."""
        text = _text_of_pixels(fields, layout)
        values = None if text is None else _numbers(text, layout.separator)
        if values is None or len(values) != layout.num_pixels:
            count = f"{len(fields)} columns" if text is None else f"{_count(values)} numbers"
            return Unreadable(f"a line of {count}, which has not {layout.num_pixels} pixels")
        return values.astype(self.dtype).reshape(self.stored_shape)


def open_csv(request: Request, paths: list[str]) -> CsvSource:
    """Opens CSV files, counts their lines and finds their labels.

    Raises:
      UserError: a file holds no lines of numbers, or they differ in the number of pixels.
    """
    files, labels, all_bytes = [], set[Label](), True
    for path, name in zip(paths, short_names(paths), strict=True):
        layout = _layout(path, request)
        file, found, are_bytes = _index(path, name, layout)
        files.append(file)
        labels |= found
        all_bytes &= are_bytes
    lengths = sorted({file.layout.num_pixels for file in files})
    if len(lengths) > 1:
        raise UserError(f"--input {request}: lines of {lengths} pixels; give files of one length")
    names = names_of(labels, f"--input {request}") if labels else None
    shape = _shape(lengths[0], request) if all_bytes else (lengths[0],)
    dtype = "uint8" if all_bytes else "float32"
    source = CsvSource(request, tuple(files), names, shape, dtype, shape)
    items = source.items(plan.Piece(0, 0, source.num_images))
    # All lines are alike, so that the first one is enough.
    readable = (item for item in items if not isinstance(item.content, Unreadable))
    settled = settle(itertools.islice(readable, 1), request)
    return dataclasses.replace(source, image_shape=settled.image_shape, color=settled.color)


def _shape(num_pixels: int, request: Request) -> tuple[int, ...]:
    """Returns the shape of images of bytes: of --image-size if it fits, else a square, or flat."""
    if request.image_size and num_pixels in (size := math.prod(request.image_size), 3 * size):
        return (*request.image_size, 3)[: 2 if num_pixels == size else 3]
    side = math.isqrt(num_pixels)
    return (side, side) if side * side == num_pixels else (num_pixels,)


def _index(path: str, name: str, layout: Layout) -> tuple[CsvFile, set[Label], bool]:
    """Counts the lines of a file; also returns its labels, and whether all pixels are bytes."""
    offsets: list[int] = []
    texts: set[str] = set()
    count, all_bytes = 0, True
    with storage.open_unpacked(path) as file:
        for offset, line in _lines(file, path, layout.has_header):
            if count % STRIDE == 0:
                offsets.append(offset)
            count += 1
            fields = _fields(line, layout.delimiter)
            text = _text_of_pixels(fields, layout)
            all_bytes = all_bytes and (text is None or _are_bytes(text))
            if layout.label is not None and text is not None:
                texts.add(fields[layout.label])
    where = f"{path}: label"
    labels = {label for text in texts if (label := _plain(text, where)) is not None}
    return CsvFile(path, name, layout, count, tuple(offsets)), labels, all_bytes


def _lines(file: BinaryIO, path: str, has_header: bool) -> Iterator[tuple[int, str]]:
    """Yields (offset, text) of the lines that are not empty, from the file's position on."""
    offset = file.tell()
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES or b"\0" in line:
            raise UserError(f"{path}: not a CSV file; each line has a label and pixels")
        text = line.decode("utf-8-sig", "replace").strip("\r\n ")
        if text and not has_header:
            yield offset, text
        has_header = has_header and not text
        offset += len(line)


def _rows(file: CsvFile, start: int, stop: int) -> Iterator[tuple[int, list[str]]]:
    """Yields (number, fields) of the lines start … stop − 1."""
    kept, further = divmod(start, STRIDE)
    with storage.open_unpacked(file.path) as opened:
        opened.seek(file.offsets[kept])
        lines = _lines(opened, file.path, has_header=False)
        for row, (_, line) in enumerate(
            itertools.islice(lines, further, further + stop - start), start
        ):
            yield row, _fields(line, file.layout.delimiter)


def _fields(line: str, delimiter: str) -> list[str]:
    if '"' in line:
        return next(csv.reader([line], delimiter=delimiter))
    return line.split(delimiter)


def _text_of_pixels(fields: list[str], layout: Layout) -> str | None:
    """Returns the text of an image's pixels; None if the line has too few columns or too many."""
    if len(fields) != layout.num_columns:
        return None
    start, stop = layout.pixels[0], layout.pixels[-1] + 1
    chosen = fields[start:stop]
    if len(chosen) != len(layout.pixels):
        chosen = [fields[place] for place in layout.pixels]
    return layout.delimiter.join(chosen)


def _numbers(text: str, separator: str) -> np.ndarray | None:
    """Parses numbers, float64 [n]; None if there is something else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # the text ends with no number
        try:
            return np.fromstring(text, np.float64, sep=separator)
        except (DeprecationWarning, ValueError):
            return None


def _are_bytes(text: str) -> bool:
    """Whether all numbers in a text are integers 0 … 255, without parsing them."""
    codes = np.frombuffer(text.encode(), np.uint8)
    digits = codes - ord("0")  # wraps around where there is no digit
    is_digit = digits < 10
    if not np.isin(codes[~is_digit], np.frombuffer(_SEPARATORS, np.uint8)).all():
        return False
    three = is_digit[:-2] & is_digit[1:-1] & is_digit[2:]
    if (three[:-1] & is_digit[3:]).any():
        return False
    at = np.flatnonzero(three)
    values = digits[at] * 100.0 + digits[at + 1] * 10.0 + digits[at + 2]
    return bool((values <= MAX_PIXEL).all())


def _count(values: np.ndarray | None) -> str:
    return "no" if values is None else str(len(values))


def _label(fields: list[str], layout: Layout, where: str) -> Label | None:
    if layout.label is None or len(fields) != layout.num_columns:
        return None
    return _plain(fields[layout.label], where)


def _weight(fields: list[str], layout: Layout, where: str) -> float | None:
    if layout.weight is None:
        return None
    if len(fields) != layout.num_columns:
        return 0.0  # nor has it pixels
    return weight_in_text(fields[layout.weight].strip(), where)


def _plain(text: str, where: str) -> Label | None:
    """Returns a label in a CSV file: an integer where it can be one, else a name."""
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return plain(int(text), where)
    number = _numbers(text, ",") if text else None
    if number is not None and len(number) == 1 and float(number[0]).is_integer():
        return plain(float(number[0]), where)
    return plain(text, where) if text else None


def _layout(path: str, request: Request) -> Layout:
    """Finds the columns of a file from its first two lines.

    Raises:
      UserError: they hold no numbers.
    """
    with storage.open_unpacked(path) as file:
        first = [line for _, line in itertools.islice(_lines(file, path, False), 2)]
    if not first:
        raise UserError(f"{path}: 0 images; nothing to cluster")
    delimiter = max(",;\t", key=first[0].count)
    rows = [_fields(line, delimiter) for line in first]
    has_header = _is_header(rows[0])
    if has_header and len(rows) == 1:
        raise UserError(f"{path}: 0 images; nothing to cluster")
    names = rows[0] if has_header else [str(place) for place in range(len(rows[0]))]
    values = rows[-1] if has_header else rows[0]
    named = weight_column(names, request, path)
    weight = None if named is None else names.index(named)
    label = _place_of_label(names, values, has_header, weight, request, path)
    if (place := _place_of_text(names, values, request, path)) is not None:
        num_pixels = len(values[place].split())
        return Layout(delimiter, has_header, len(names), label, (place,), " ", num_pixels, weight)
    pixels = tuple(
        place
        for place, name in enumerate(names)
        if place not in (label, weight)
        and name.strip().lower() not in ("", "unnamed: 0")
        and _is_number(values, place)
    )
    if not pixels:
        raise UserError(f"{path}: no columns of numbers; each line has a label and pixels")
    unread = [name for place, name in enumerate(names) if place not in (label, weight, *pixels)]
    if unread:
        logger.warning(f"--input {request}: {path}: columns that are not read: {', '.join(unread)}")
    places = label, pixels, delimiter, len(pixels), weight
    return Layout(delimiter, has_header, len(names), *places)


def _is_header(fields: Sequence[str]) -> bool:
    others = [place for place in range(1, len(fields)) if not _is_number(fields, place)]
    return bool(others and len(others) > len(fields) // 2) or fields[0].lower() in LABEL_NAMES


def _is_number(fields: Sequence[str], place: int) -> bool:
    try:
        float(fields[place])
    except (ValueError, IndexError):
        return False
    return True


def _place_of_label(
    names: list[str],
    values: list[str],
    has_header: bool,
    weight: int | None,
    request: Request,
    path: str,
) -> int | None:
    name = label_column(names, request, path)
    if name is not None:
        return names.index(name)
    if has_header or not request.wants_labels:
        return None
    first, *others = (place for place in range(len(names)) if place != weight)
    if not _is_number(values, first):
        return first
    # Without a header, one column more than an image has pixels is a label.
    sizes = (_is_image(1 + len(others), request), _is_image(len(others), request))
    return first if sizes == (False, True) else None


def _is_image(num_pixels: int, request: Request) -> bool:
    return num_pixels > 0 and len(_shape(num_pixels, request)) > 1


def _place_of_text(names: list[str], values: list[str], request: Request, path: str) -> int | None:
    """Finds a column whose text holds all pixels of an image, separated by spaces."""
    asked = request.image_column
    if asked is not None and asked not in names:
        raise UserError(f"--image-column {asked}: {path} has no such column")
    for place, name in enumerate(names):
        is_text = place < len(values) and len(values[place].split()) > 1
        if is_text and name == (asked or name) and _numbers(values[place], " ") is not None:
            return place
    if asked is not None:
        raise UserError(
            f"--image-column {asked}: {path} has no numbers separated by spaces there; columns "
            "of one pixel each need no name"
        )
    return None

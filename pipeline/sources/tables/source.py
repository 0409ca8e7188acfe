"""Tables with a column of images: encoded (bytes, or Hugging Face's struct), or of numbers."""

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import TransientError, UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import short_names, stored_dtype
from pipeline.sources.columns import image_column, label_column, weight_column
from pipeline.sources.labels import (
    MAX_LABEL,
    NONE,
    Label,
    Unnamed,
    names_of,
    number_of,
    plain,
)
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.rows import Item, blocks, settle
from pipeline.sources.tables import arrow, parquet
from pipeline.sources.tables.cells import is_encoded, is_numbers, numbers_in
from pipeline.sources.weights import weight_of

logger = logging.getLogger(__name__)


def reader_of(path: str) -> ModuleType:
    """Returns the module that reads the rows of a file: `parquet` or `arrow`."""
    return parquet if path.lower().endswith((".parquet", ".pq")) else arrow


class TableFile(NamedTuple):
    """A Parquet or Arrow file.

    Attributes:
      name: the beginning of the ids of its images.
      label: the column of its labels; None if it has none.
      label_type: the type of its labels.
      class_names: names of its labels 0, 1, …; () if it names none.
    """

    path: str
    name: str
    num_rows: int
    label: str | None
    label_type: pa.DataType | None
    class_names: tuple[str, ...]

    def named(self, value: Any, where: str) -> Label | None:
        """Returns a label as its name, if the file has names for its integers.

        Raises:
          UserError: it is no label, or it has no name.
        """
        label = plain(value, where)
        if not (self.class_names and isinstance(label, int)):
            return label
        if not 0 <= label < len(self.class_names):
            raise UserError(
                f"{where}: label {label}, but the file has {len(self.class_names)} names of "
                "labels; correct the label or add the name"
            )
        return self.class_names[label]


@dataclasses.dataclass(frozen=True)
class TableSource:
    """Images in Parquet or Arrow files, one per row, numbered through all files.

    Attributes:
      column: the column of the images.
      numbers: the dtype of the numbers in it, if it holds lists of them: "uint8" or "float32".
    """

    request: Request
    files: tuple[TableFile, ...]
    column: str
    label_names: tuple[str, ...] | None
    numbers: str | None = None
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"
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
            weight = self.request.weight_column if self.request.wants_weights else None
            columns = [name for name in (self.column, file.label, weight) if name is not None]
            values = reader_of(file.path).read_rows(file.path, columns, start, stop)
            for row, (value, *others) in enumerate(values, start):
                where = f"{file.path}: row {row}"
                number: int | None = NONE
                if file.label is not None:
                    number = number_of(file.named(others[0], where), numbers)
                if number is None:
                    raise UserError(f"{where}: label {others[0]} is new; do not change the file")
                yield Item(
                    f"{file.name}/{row:05d}",
                    number,
                    self._content(value, file.path),
                    None if weight is None else weight_of(others[-1], where),
                )

    def _content(self, value: Any, path: str) -> bytes | np.ndarray | Unreadable:
        """Returns an image as it is stored, or why there is none.

        Args:
          path: of the table, beside which files lie that it names.
        """
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return _file_beside(path, value["path"])
            value = value.get("bytes")
        if value is None:
            return Unreadable("no image in this row")
        if isinstance(value, np.ndarray):
            with np.errstate(over="ignore"):  # infinity is refused later
                return value.astype(self.numbers)
        return value


def open_tables(request: Request, paths: list[str]) -> TableSource:
    """Opens Parquet or Arrow files, which must have their images in a column of one name.

    Raises:
      UserError: they do not, or a file is damaged, or no image can be read.
    """
    files, schemas = [], []
    for path, name in zip(paths, short_names(paths), strict=True):
        num_rows, schema = reader_of(path).read_schema(path)
        label = label_column(schema.names, request, path)
        _check_once(label, schema, path)
        _check_once(weight_column(schema.names, request, path), schema, path)
        label_type = None if label is None else schema.field(label).type
        names = _class_names(schema, label)
        files.append(TableFile(path, name, num_rows, label, label_type, names))
        schemas.append(schema)
    columns = {_image_column(s, request, path) for s, path in zip(schemas, paths, strict=True)}
    if len(columns) > 1:
        raise UserError(f"--input {request}: images in several columns: {sorted(columns)}")
    (column,) = columns
    _say_unlabelled(files, schemas, column, request)
    label_names = _label_names([file for file in files if file.label is not None], request)
    numbers = _numbers(files, schemas, column)
    source = TableSource(request, tuple(files), column, label_names, numbers)
    shape, dtype, color = settle(source.items(plan.Piece(0, 0, source.num_images)), request)
    return dataclasses.replace(source, image_shape=shape, dtype=dtype, color=color)


def _image_column(schema: pa.Schema, request: Request, path: str) -> str:
    fitting = [field.name for field in schema if is_encoded(field.type) or is_numbers(field.type)]
    try:
        column = image_column(schema.names, fitting, request, path)
    except UserError as error:
        held = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise UserError(f"{error}; its columns are {held[:300]}") from error
    _check_once(column, schema, path)
    return column


def _check_once(column: str | None, schema: pa.Schema, path: str) -> None:
    """Raises UserError if several columns are called so."""
    if (count := schema.names.count(column)) > 1:
        raise UserError(f"{path}: {count} columns are called {column}; rename all but one")


def _numbers(files: list[TableFile], schemas: list[pa.Schema], column: str) -> str | None:
    """Returns the dtype that numbers in the column of images are stored with; None if none are.

    Raises:
      UserError: integers are not all 0 … 255.
    """
    found = set()
    for file, schema in zip(files, schemas, strict=True):
        dtype = numbers_in(schema.field(column).type)
        if dtype is not None:
            limits = functools.partial(_limits, file.path, column)
            found.add(stored_dtype(dtype, limits, file.path))
    return "float32" if len(found) > 1 else next(iter(found), None)


def _limits(path: str, column: str) -> tuple[int, int]:
    """Reads the least and the largest number in a column of lists of integers."""
    reader = reader_of(path)
    arrays = (
        value for (value,) in reader.read_rows(path, [column], 0, reader.read_schema(path)[0])
    )
    ends = [(v.min(), v.max()) for v in arrays if isinstance(v, np.ndarray) and v.size]
    return int(min((low for low, _ in ends), default=0)), int(max((h for _, h in ends), default=0))


def _file_beside(path: str, name: str) -> bytes | Unreadable:
    """Reads the file that a table names, by its path from the table's folder."""
    try:
        return storage.read_bytes(storage.join(os.path.dirname(path), name))
    except TransientError:
        raise
    except UserError as error:
        return Unreadable(f"cannot read {name}: {error.__cause__ or 'refused'}")


def _say_unlabelled(
    files: list[TableFile], schemas: list[pa.Schema], column: str, request: Request
) -> None:
    """Logs a line where images have no label though there may be some to read."""
    bare = [file.path for file in files if file.label is None]
    others = {name for schema in schemas for name in schema.names} - {column, request.weight_column}
    if not request.wants_labels:
        return
    if bare and len(bare) < len(files):
        logger.warning(f"--input {request}: no column label, so no labels: {', '.join(bare)}")
    elif bare and others:
        logger.warning(
            f"--input {request}: no column label, so no labels; not read: "
            f"{', '.join(sorted(others))}; --label-column takes one"
        )


def _label_names(files: list[TableFile], request: Request) -> tuple[str, ...] | None:
    """Finds the names of the labels, as Source has them.

    Integers that every file names alike keep their numbers. Otherwise labels of several files are
    brought together by name. Labels that no file names are read, if they may need names.

    Args:
      files: those with labels.

    Raises:
      UserError: some labels are integers without names, others are names.
    """
    if not files:
        return None
    named = [file for file in files if file.class_names]
    if named and len({file.class_names for file in files}) == 1:
        return tuple(dict.fromkeys(named[0].class_names))
    labels: set[Label] = {name for file in named for name in file.class_names}
    integers = not named and all(pa.types.is_integer(file.label_type) for file in files)
    for file in files:
        if not (file.class_names or (integers and _are_numbers(file))):
            labels |= _labels_in(file)
    return names_of(labels, f"--input {request}")


def _are_numbers(file: TableFile) -> bool:
    """Whether all integers of a file are their own numbers, as far as is known without reading."""
    return reader_of(file.path).are_within(file.path, file.label, NONE, MAX_LABEL)


def _labels_in(file: TableFile) -> set[Label]:
    """Reads the distinct labels of a file."""
    values: Iterable[Any]
    if pa.types.is_nested(file.label_type):
        rows = reader_of(file.path).read_rows(file.path, [file.label], 0, file.num_rows)
        values = (value for (value,) in rows)
    else:
        values = reader_of(file.path).distinct(file.path, file.label)
    found = (plain(value, f"{file.path}: {file.label}") for value in values)
    return {label for label in found if label is not None}


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...]:
    """Returns the names that Hugging Face's datasets keep in the schema; () if there are none."""
    try:
        facts = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(facts["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()

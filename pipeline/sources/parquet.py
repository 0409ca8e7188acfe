"""Parquet files with a column of encoded images (bytes, or Hugging Face's struct) or of floats."""

import dataclasses
import functools
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import short_names
from pipeline.sources.decode import Unreadable, check_convertible, decode
from pipeline.sources.labels import (
    MAX_LABEL,
    NONE,
    Label,
    Unnamed,
    names_of,
    number_of,
    plain,
)
from pipeline.sources.parquet_rows import (
    are_within,
    distinct,
    is_floats,
    read_rows,
    read_schema,
)
from pipeline.sources.protocol import Request
from pipeline.sources.rows import FLOAT_KEYS, Row, assemble, first_row, read_row

logger = logging.getLogger(__name__)

IMAGE, LABEL = "image", "label"


class TableFile(NamedTuple):
    """A Parquet file.

    Attributes:
      name: the beginning of the ids of its images.
      label: the type of its labels; None if it has none.
      class_names: names of its labels 0, 1, …; () if it names none.
    """

    path: str
    name: str
    num_rows: int
    label: pa.DataType | None
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
class ParquetSource:
    """Images in Parquet files, one per row, numbered through all files.

    Attributes:
      column: the column of the images.
    """

    request: Request
    files: tuple[TableFile, ...]
    column: str
    label_names: tuple[str, ...] | None
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"

    @property
    def num_images(self) -> int:
        return sum(file.num_rows for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        labelled = self.label_names is not None
        rows = self.rows(piece)
        return assemble(rows, self.image_shape, self.dtype, labelled, self.request)

    def rows(self, piece: plan.Piece) -> Iterator[Row | Rejection]:
        """Reads the images of a piece, one by one."""
        numbers = {name: index for index, name in enumerate(self.label_names or ())}
        for index, start, stop in plan.overlaps(piece, (f.num_rows for f in self.files)):
            file = self.files[index]
            columns = [self.column, *([LABEL] if file.label is not None else [])]
            values = read_rows(file.path, columns, start, stop)
            for row, (value, *label) in enumerate(values, start):
                where = f"{file.path}: row {row}"
                number = number_of(file.named(label[0], where), numbers) if label else NONE
                if number is None:
                    raise UserError(f"{where}: label {label[0]} is new; do not change the file")
                read = functools.partial(self._pixels, value)
                yield read_row(f"{file.name}/{row:05d}", number, read)

    def _pixels(self, value: Any) -> np.ndarray:
        if isinstance(value, dict):
            value = value.get("bytes")
        if value is None:
            raise Unreadable("no image in this row")
        if isinstance(value, bytes):
            return decode(value, self.request)
        try:
            pixels = np.array(value, np.float32)
        except TypeError as error:
            raise Unreadable("a value is missing") from error
        if self.image_shape and pixels.shape != self.image_shape:
            raise Unreadable(f"{len(pixels)} values instead of {self.image_shape[0]}")
        return pixels


def open_parquet(request: Request, paths: list[str]) -> ParquetSource:
    """Opens Parquet files, which must have their images in a column of one name.

    Raises:
      UserError: they do not, or a file is damaged, or no image can be read.
    """
    request.refuse_test_split()
    files, schemas = [], []
    for path, name in zip(paths, short_names(paths), strict=True):
        num_rows, schema = read_schema(path)
        labelled = LABEL in _columns(schema, path)
        label = schema.field(LABEL).type if labelled else None
        files.append(TableFile(path, name, num_rows, label, _class_names(schema)))
        schemas.append(schema)
    columns = {_image_column(s, path) for s, path in zip(schemas, paths, strict=True)}
    if len(columns) > 1:
        raise UserError(f"--input {request}: images in several columns: {sorted(columns)}")
    _say_unlabelled(files, schemas, request)
    names = _label_names([file for file in files if file.label is not None], request)
    source = ParquetSource(request, tuple(files), columns.pop(), names)
    first = first_row(source.rows(plan.Piece(0, 0, source.num_images)), request)
    check_convertible(first.pixels.shape, first.pixels.dtype.name, request)
    return dataclasses.replace(
        source, image_shape=first.pixels.shape, dtype=first.pixels.dtype.name
    )


def _image_column(schema: pa.Schema, path: str) -> str:
    for name in FLOAT_KEYS:
        if name in _columns(schema, path) and _is_images(schema.field(name).type):
            return name
    held = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise UserError(
        f"{path}: no column {IMAGE} of encoded images (binary, or a struct with bytes), nor one "
        f"of float lists ({', '.join(FLOAT_KEYS)}); it has {held[:300]}"
    )


def _columns(schema: pa.Schema, path: str) -> list[str]:
    """Returns the names of the columns; raises UserError if one that is read repeats."""
    for name in (*FLOAT_KEYS, LABEL):
        if schema.names.count(name) > 1:
            raise UserError(
                f"{path}: {schema.names.count(name)} columns are called {name}; rename all but one"
            )
    return schema.names


def _is_images(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_images(kind.value_type)
    if pa.types.is_struct(kind):
        return "bytes" in {field.name for field in kind}
    return _is_binary(kind) or is_floats(kind)


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _say_unlabelled(files: list[TableFile], schemas: list[pa.Schema], request: Request) -> None:
    """Logs a line where images have no label though there may be some to read."""
    bare = [file.path for file in files if file.label is None]
    others = {name for schema in schemas for name in schema.names} - {*FLOAT_KEYS, LABEL}
    if bare and len(bare) < len(files):
        logger.warning(f"--input {request}: no column {LABEL}, so no labels: {', '.join(bare)}")
    elif bare and others:
        logger.warning(
            f"--input {request}: no column {LABEL}, so no labels; not read: "
            f"{', '.join(sorted(others))}"
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
    kinds = [file.label for file in files if file.label is not None]
    integers = not named and all(map(pa.types.is_integer, kinds))
    for file in files:
        if not (file.class_names or (integers and _are_numbers(file))):
            labels |= _labels_in(file)
    return names_of(labels, f"--input {request}")


def _are_numbers(file: TableFile) -> bool:
    """Whether all integers of a file are their own numbers, as far as is known without reading."""
    return are_within(file.path, LABEL, NONE, MAX_LABEL)


def _labels_in(file: TableFile) -> set[Label]:
    """Reads the distinct labels of a file."""
    values: Iterable[Any]
    if file.label is None or pa.types.is_nested(file.label):
        rows = read_rows(file.path, [LABEL], 0, file.num_rows)
        values = (value for (value,) in rows)
    else:
        values = distinct(file.path, LABEL)
    found = (plain(value, f"{file.path}: {LABEL}") for value in values)
    return {label for label in found if label is not None}


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Returns the names that Hugging Face's datasets keep in the schema; () if there are none."""
    try:
        facts = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(facts["info"]["features"][LABEL]["names"])
    except (KeyError, TypeError, ValueError):
        return ()

"""Parquet files with a column of encoded images (bytes, or Hugging Face's struct) or of floats."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import short_names
from pipeline.sources.decode import Unreadable, check_convertible, decode
from pipeline.sources.parquet_rows import is_floats, read_rows, read_schema
from pipeline.sources.protocol import Request
from pipeline.sources.rows import FLOAT_KEYS, Row, assemble, first_row, read_row

IMAGE, LABEL = "image", "label"


class TableFile(NamedTuple):
    """A Parquet file; `name` is the beginning of the ids of its images."""

    path: str
    name: str
    num_rows: int


@dataclasses.dataclass(frozen=True)
class ParquetSource:
    """Images in Parquet files, one per row, numbered through all files.

    Attributes:
      column: the column of the images.
      string_labels: whether the files hold names of labels instead of integers.
    """

    request: Request
    files: tuple[TableFile, ...]
    column: str
    label_names: tuple[str, ...] | None
    string_labels: bool
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"

    @property
    def num_images(self) -> int:
        return sum(file.num_rows for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection]:
        labelled = self.label_names is not None
        rows = self.rows(piece)
        return assemble(rows, self.image_shape, self.dtype, labelled, self.request)

    def rows(self, piece: plan.Piece) -> Iterator[Row | Rejection]:
        """Reads the images of a piece, one by one."""
        columns = [self.column, *([LABEL] if self.label_names is not None else [])]
        for index, start, stop in plan.overlaps(piece, (f.num_rows for f in self.files)):
            file = self.files[index]
            values = read_rows(file.path, columns, start, stop)
            for number, (value, *label) in enumerate(values, start):
                read = functools.partial(self._pixels, value)
                yield read_row(f"{file.name}/{number:05d}", self._label(label), read)

    def _label(self, label: list[Any]) -> int | None:
        if not label:
            return -1
        if label[0] is None or not self.string_labels:
            return label[0]
        return _index(self.label_names or ())[label[0]]

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
        files.append(TableFile(path, name, num_rows))
        schemas.append(schema)
    columns = {_image_column(s, path) for s, path in zip(schemas, paths, strict=True)}
    if len(columns) > 1:
        raise UserError(f"--input {request}: images in several columns: {sorted(columns)}")
    names, string_labels = _label_names(files, schemas, request)
    source = ParquetSource(request, tuple(files), columns.pop(), names, string_labels)
    first = first_row(source.rows(plan.Piece(0, 0, source.num_images)), request)
    check_convertible(first.pixels.shape, first.pixels.dtype.name, request)
    return dataclasses.replace(
        source, image_shape=first.pixels.shape, dtype=first.pixels.dtype.name
    )


def _image_column(schema: pa.Schema, path: str) -> str:
    for name in FLOAT_KEYS:
        if name in schema.names and _is_images(schema.field(name).type):
            return name
    held = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise UserError(
        f"{path}: no column {IMAGE} of encoded images (binary, or a struct with bytes), nor one "
        f"of float lists ({', '.join(FLOAT_KEYS)}); it has {held[:300]}"
    )


def _is_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in {field.name for field in kind}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or is_floats(kind)


def _label_names(
    files: list[TableFile], schemas: list[pa.Schema], request: Request
) -> tuple[tuple[str, ...] | None, bool]:
    """Finds the names of the labels, as Source has them, and whether the files hold names.

    Where they do, the column is read whole: the numbers of labels follow from the names' order.
    """
    if not all(LABEL in schema.names for schema in schemas):
        return None, False
    kinds = {schema.field(LABEL).type for schema in schemas}
    if all(pa.types.is_integer(kind) for kind in kinds):
        return _class_names(schemas[0]), False
    if not all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in kinds):
        raise UserError(
            f"--input {request}: labels of type {', '.join(sorted(map(str, kinds)))}; "
            "integers or strings are needed"
        )
    rows = (row for file in files for row in read_rows(file.path, [LABEL], 0, file.num_rows))
    return tuple(sorted({name for (name,) in rows if name is not None})), True


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Returns the names that Hugging Face's datasets keep in the schema; () if there are none."""
    try:
        facts = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(facts["info"]["features"][LABEL]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


# Asked for each row, but there is one tuple of names.
@functools.lru_cache(maxsize=1)
def _index(names: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}

"""Parquet files with a column of encoded images (bytes, or Hugging Face's struct) or of floats."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Rejection, Request
from pipeline.sources.checks import short_names
from pipeline.sources.decode import Unreadable, check_convertible, decode
from pipeline.sources.rows import FLOAT_KEYS, Row, assemble, first_row, read_row

IMAGE, LABEL = "image", "label"
BATCH_ROWS = 64  # decoded at a time, while they are still packed images
_BUFFER_BYTES = 1 << 20


class File(NamedTuple):
    """A Parquet file; `name` is its part in the ids of its images."""

    path: str
    name: str
    num_rows: int


@dataclasses.dataclass(frozen=True)
class ParquetSource:
    """Images in Parquet files, one a row; the files follow each other.

    Attributes:
      column: where the images are.
      string_labels: whether a label is a name, not an integer.
    """

    request: Request
    files: tuple[File, ...]
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
        """The images of a piece, one by one."""
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
    """Parquet files of one schema."""
    request.check_whole()
    files, schemas = [], []
    for path, name in zip(paths, short_names(paths), strict=True):
        with _open(path) as file:
            files.append(File(path, name, file.metadata.num_rows))
            schemas.append(file.schema_arrow)
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


def read_rows(path: str, columns: list[str], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Values of `columns` in the rows start … stop − 1, few of them in memory at a time."""
    with _open(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first < stop and start < first + size:
                yield from _group_rows(file, group, columns, start - first, stop - first)
            first += size


def _group_rows(
    file: pq.ParquetFile, group: int, columns: list[str], start: int, stop: int
) -> Iterator[tuple[Any, ...]]:
    first = 0
    batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)
    for batch in batches:
        a, b = max(start - first, 0), min(stop - first, batch.num_rows)
        if a < b:
            cut = batch.slice(a, b - a)
            yield from zip(*(_values(cut.column(name)) for name in columns), strict=True)
        first += batch.num_rows
        if first >= stop:
            return


def _values(column: pa.Array) -> Any:
    """The values of a column; rows of floats as arrays, which a Python list would cost dearly."""
    if _is_floats(column.type):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()


@contextlib.contextmanager
def _open(path: str) -> Iterator[pq.ParquetFile]:
    with storage.open_read(path) as opened:
        try:
            # Without its own buffer, a column of a row group would be read whole.
            with pq.ParquetFile(opened, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # of the file system; without a number it is Arrow's own
            text = str(error).split("\n")[0]
            raise UserError(f"{path}: damaged or no Parquet file ({text})") from error


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
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_floats(kind)


def _is_floats(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in lists) and pa.types.is_floating(kind.value_type)


def _label_names(
    files: list[File], schemas: list[pa.Schema], request: Request
) -> tuple[tuple[str, ...] | None, bool]:
    """Names of labels as in Source, and whether the files hold names rather than integers."""
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
    """What Hugging Face's datasets say in the schema of integer labels; () if they do not."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(said["info"]["features"][LABEL]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


@functools.lru_cache(maxsize=1)
def _index(names: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}

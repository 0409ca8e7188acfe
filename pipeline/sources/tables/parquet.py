"""Rows of Parquet files, wherever these lie, few of them in memory at a time.

Arrow is given local files by their path, never a Python file object: a thread of Arrow's that still
held one could end the process with SIGABRT when the interpreter shuts down. Of a remote file, what
is to be read is copied to this machine's disk first.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import decoding
from pipeline.sources.tables.cells import values_of, without_views

_DISTINCT_ROWS = 65_536
BATCH_ROWS = 64  # decoded at a time: a row may be a large picture
_BUFFER_BYTES = 1 << 20
_MAGIC_BYTES = 4  # "PAR1", at the beginning and at the end
_TAIL_BYTES = 8  # the length of the footer, then the magic
# Readers read this much more than a chunk's length, since old writers of dictionaries wrote it
# too small (PARQUET-816).
_SLACK_BYTES = 100


def read_schema(path: str) -> tuple[int, pa.Schema]:
    """Reads the number of rows and the columns of a Parquet file.

    Raises:
      UserError: it is damaged, or no Parquet file.
    """
    with _opened(path) as file:
        return file.metadata.num_rows, file.schema_arrow


def read_rows(path: str, columns: list[str], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Reads the values of `columns` in the rows start … stop − 1.

    Raises:
      UserError: the file is damaged, or no Parquet file.
    """
    with _opened(path, columns, start, stop) as file:
        for group, first in _row_groups(file.metadata, start, stop):
            yield from _group_rows(file, group, columns, start - first, stop - first)


def distinct(path: str, column: str) -> set[Any]:
    """Reads the distinct values of a column that holds no lists or structs."""
    with _opened(path, [column], 0, sys.maxsize) as file:
        found: set[Any] = set()
        batches = file.iter_batches(_DISTINCT_ROWS, columns=[column], use_threads=False)
        for values in (batch.column(column) for batch in batches):
            found.update(pc.unique(without_views(values)).to_pylist())
        return found


def are_within(path: str, column: str, low: int, high: int) -> bool:
    """Whether the statistics in a file say that the integers of a column are all low … high."""
    with _opened(path) as file:
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        chunks = (group.column(i) for group in groups for i in range(group.num_columns))
        known = [chunk.statistics for chunk in chunks if chunk.path_in_schema == column]
        return all(
            each is not None and each.has_min_max and low <= each.min and each.max <= high
            for each in known
        )


def _row_groups(metadata: pq.FileMetaData, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yields (row group, its first row) of those that hold rows start … stop − 1."""
    first = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if first < stop and start < first + size:
            yield group, first
        first += size


def _group_rows(
    file: pq.ParquetFile, group: int, columns: list[str], start: int, stop: int
) -> Iterator[tuple[Any, ...]]:
    """Reads rows start … stop − 1, counted from the first of the row group."""
    first = 0
    batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)
    for batch in batches:
        a, b = max(start - first, 0), min(stop - first, batch.num_rows)
        if a < b:
            cut = batch.slice(a, b - a)
            yield from zip(*(values_of(cut.column(name)) for name in columns), strict=True)
        first += batch.num_rows
        if first >= stop:
            return


@contextlib.contextmanager
def _opened(
    path: str, columns: Sequence[str] = (), start: int = 0, stop: int = 0
) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file to read `columns` of the rows start … stop − 1.

    Raises:
      UserError: the file is damaged, or no Parquet file; raised within the block as well.
    """
    # Opened for a local file too: it names the file if it cannot be read.
    with (
        storage.open_read(path) as file,
        decoding(path, "a Parquet file"),
        contextlib.ExitStack() as stack,
    ):
        if not storage.is_local(path):
            path_on_disk = stack.enter_context(_copied(file, columns, start, stop))
        else:
            path_on_disk = path
        native = stack.enter_context(pa.OSFile(os.fsencode(path_on_disk)))
        yield stack.enter_context(_parquet(native))


def _parquet(source: Any) -> pq.ParquetFile:
    # Without a buffer of its own, Arrow would read a column of a row group whole.
    return pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)


@contextlib.contextmanager
def _copied(remote: BinaryIO, columns: Sequence[str], start: int, stop: int) -> Iterator[str]:
    """Copies what is read of a remote file to a temporary file of the same length; its path.

    The copy has the remote file's footer, and of the data only `columns` of the row groups that
    hold rows start … stop − 1. The rest are holes, which take no disk: a piece of a large file
    copies only its share.
    """
    with tempfile.NamedTemporaryFile(suffix=".parquet") as local:
        _copy_footer(remote, local)
        with _parquet(pa.OSFile(local.name)) as file:
            metadata = file.metadata
        for offset, size in _chunks(metadata, columns, start, stop):
            _copy_range(remote, local, offset, size)
        yield local.name


def _copy_footer(remote: BinaryIO, local: Any) -> None:
    """Copies the end of a file, which says where everything else is.

    Of a file that is damaged there, as much as there is: Arrow says then what is wrong.
    """
    size = remote.seek(0, os.SEEK_END)
    remote.seek(max(0, size - _TAIL_BYTES))
    footer = int.from_bytes(remote.read(_TAIL_BYTES)[:4], "little")
    start = max(0, size - _TAIL_BYTES - footer)
    _copy_range(remote, local, start, size - start)


def _chunks(
    metadata: pq.FileMetaData, columns: Sequence[str], start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """Yields (offset, bytes) of the columns' data in the row groups of rows start … stop − 1."""
    for group, _ in _row_groups(metadata, start, stop):
        row_group = metadata.row_group(group)
        for chunk in map(row_group.column, range(row_group.num_columns)):
            # The fields of a struct are columns of their own: image.bytes, image.path.
            if chunk.path_in_schema.split(".")[0] in columns:
                offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
                offset = min(offset for offset in offsets if offset)
                yield offset, chunk.total_compressed_size + _SLACK_BYTES


def _copy_range(remote: BinaryIO, local: Any, offset: int, size: int) -> None:
    """Copies `size` bytes from `offset` on, fewer if the file ends, to the same place."""
    remote.seek(offset)
    local.seek(offset)
    while size > 0 and (part := remote.read(min(size, _BUFFER_BYTES))):
        local.write(part)
        size -= len(part)
    local.flush()

"""Rows of Arrow files, streams as `datasets.save_to_disk` writes them or files as Feather's.

A file is mapped into memory, so that rows which are not asked for are never read. A remote file is
copied to this machine's disk first.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import decoding
from pipeline.sources.tables.cells import values_of, without_views
from pipeline.sources.tables.parquet import BATCH_ROWS

_MAGIC = b"ARROW1"  # of files; a stream has none


def read_schema(path: str) -> tuple[int, pa.Schema]:
    """Reads the number of rows and the columns of an Arrow file.

    Raises:
      UserError: it is damaged, or no Arrow file.
    """
    with _opened(path) as (schema, batches):
        return sum(batch.num_rows for batch in batches), schema


def read_rows(path: str, columns: list[str], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Reads the values of `columns` in the rows start … stop − 1.

    Raises:
      UserError: the file is damaged, or no Arrow file.
    """
    first = 0
    with _opened(path) as (_, batches):
        for batch in batches:
            low, high = max(start - first, 0), min(stop - first, batch.num_rows)
            for at in range(low, high, BATCH_ROWS):
                cut = batch.slice(at, min(BATCH_ROWS, high - at))
                yield from zip(*(values_of(cut.column(name)) for name in columns), strict=True)
            first += batch.num_rows
            if first >= stop:
                return


def distinct(path: str, column: str) -> set[Any]:
    """Reads the distinct values of a column that holds no lists or structs."""
    found: set[Any] = set()
    with _opened(path) as (_, batches):
        for batch in batches:
            found.update(pc.unique(without_views(batch.column(column))).to_pylist())
    return found


def are_within(path: str, column: str, low: int, high: int) -> bool:
    """Whether a file says that the integers of a column are all low … high: Arrow's do not."""
    return False


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
    """Opens a file; yields its columns and its batches.

    Raises:
      UserError: the file is damaged, or no Arrow file; raised within the block as well.
    """
    with contextlib.ExitStack() as stack:
        if storage.is_local(path):
            # Opened before Arrow does: it names the file if it cannot be read.
            stack.enter_context(storage.open_read(path))
            on_disk = path
        else:
            on_disk = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".arrow")).name
            storage.copy_to_disk(path, on_disk)
        stack.enter_context(decoding(path, "an Arrow file"))
        mapped = stack.enter_context(pa.memory_map(os.fsencode(on_disk)))
        if mapped.read(len(_MAGIC)) == _MAGIC:
            file = stack.enter_context(pa.ipc.open_file(mapped))
            yield file.schema, map(file.get_batch, range(file.num_record_batches))
            return
        mapped.seek(0)
        stream = stack.enter_context(pa.ipc.open_stream(mapped))
        yield stream.schema, stream

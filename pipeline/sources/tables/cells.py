"""Values in the columns of Arrow: bytes, texts, structs, and lists of numbers as arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.pictures.decode import Unreadable


def values_of(column: pa.Array) -> Iterator[Any]:
    """Yields the values of a column; those of numbers as arrays, which take far less memory.

    A list of numbers that make no array, e.g. of rows of several lengths, is an Unreadable.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if not is_numbers(kind):
        yield from without_views(column).to_pylist()
    elif pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
        yield from column.to_numpy(zero_copy_only=False)
    else:
        shape = tuple(kind.shape) if isinstance(kind, pa.FixedShapeTensorType) else ()
        for row in range(len(column)):
            cell = _array(column.slice(row, 1))
            yield cell.reshape(shape) if shape and isinstance(cell, np.ndarray) else cell


def is_numbers(kind: pa.DataType) -> bool:
    """Whether the values of a column are lists of numbers, of any rank."""
    return numbers_in(kind) is not None


def numbers_in(kind: pa.DataType) -> np.dtype | None:
    """Returns the dtype of the numbers in lists, of any rank; None if there are none."""
    if not _is_list(kind):
        return None
    while _is_list(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return np.dtype(kind.to_pandas_dtype()) if is_number else None


def is_encoded(kind: pa.DataType) -> bool:
    """Whether the values of a column may be image files: bytes, or a struct of bytes and path."""
    if pa.types.is_dictionary(kind):
        return is_encoded(kind.value_type)
    if pa.types.is_struct(kind):
        return bool({"bytes", "path"} & {field.name for field in kind})
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(test(kind) for test in tests)


def without_views(column: pa.Array) -> pa.Array:
    """Returns a column of views as one of texts or bytes: of views Arrow loses the nulls."""
    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    return column.cast(pa.binary()) if pa.types.is_binary_view(column.type) else column


def _is_list(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_list(kind.storage_type)
    tests = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def _array(cell: pa.Array) -> np.ndarray | Unreadable | None:
    """Makes an array of the one value of `cell`, nested lists; None if it is missing."""
    if cell.null_count:
        return None
    shape = []
    while _is_list(cell.type):
        if isinstance(cell.type, pa.BaseExtensionType):
            cell = cell.storage
        lengths = pc.min_max(pc.list_value_length(cell)).as_py()
        if cell.null_count or lengths["min"] != lengths["max"]:
            return Unreadable("its rows are not of one length")
        shape.append(lengths["min"] or 0)
        cell = cell.flatten()
    if cell.null_count and not pa.types.is_floating(cell.type):
        return Unreadable("a value is missing")
    return cell.to_numpy(zero_copy_only=False).reshape(shape)

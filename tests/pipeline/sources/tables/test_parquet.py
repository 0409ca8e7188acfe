"""Rows of Parquet files on this machine and elsewhere, and how little of them is read."""

import io
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.sources.tables import parquet as parquet_rows
from pipeline.sources.tables.parquet import read_rows, read_schema

NAMES = ["a", "b", "c"]


def table(num_rows: int = 50) -> pa.Table:
    """Rows with pictures that do not compress, of about 2 kB each."""
    rng = np.random.default_rng(0)
    images = [{"bytes": rng.bytes(2000), "path": None} for _ in range(num_rows)]
    labels = [NAMES[number % 3] for number in range(num_rows)]
    return pa.table({"image": images, "label": labels, "more": [rng.bytes(2000) for _ in images]})


def put(path: str, **options) -> pa.Table:
    made = table()
    pq.write_table(made, file := io.BytesIO(), row_group_size=7, **options)
    storage.write_bytes(path, file.getvalue())
    return made


def expected(made: pa.Table, start: int, stop: int) -> list[tuple]:
    cut = made.slice(start, stop - start)
    return list(zip(cut["image"].to_pylist(), cut["label"].to_pylist(), strict=True))


@pytest.fixture(params=["local", "remote"])
def path(request, tmp_path) -> str:
    """Where a file may lie: in a folder with a name that only bytes can say, or in a bucket."""
    if request.param == "remote":
        return f"{request.getfixturevalue('bucket')}/set.parquet"
    (folder := tmp_path / os.fsdecode(b"a \xff:b?")).mkdir()
    return str(folder / "set.parquet")


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "compression": "zstd"}], ids=str)
def test_any_rows(path, options):
    made = put(path, **options)
    assert read_schema(path) == (50, made.schema)
    for start, stop in [(0, 50), (0, 1), (6, 8), (13, 36), (49, 50)]:
        rows = list(read_rows(path, ["image", "label"], start, stop))
        assert rows == expected(made, start, stop), (start, stop)


def test_a_damaged_file_is_named(path):
    for data in (b"", b"PAR1", b"PAR1 but no more", b"PAR1" + b"\xff" * 4 + b"PAR1"):
        storage.write_bytes(path, data)
        with pytest.raises(UserError, match=r"set\.parquet: damaged or not a Parquet file \("):
            read_schema(path)


def test_a_file_that_is_missing_is_named(path):
    with pytest.raises(UserError, match=r"set\.parquet: "):
        read_schema(path)


class Counting(io.BytesIO):
    """A remote file that counts what is read of it."""

    num_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        self.num_bytes += len(data)
        return data


def test_of_a_remote_file_only_what_is_needed_is_copied(tmp_path):
    made = put(str(tmp_path / "set.parquet"))
    data = (tmp_path / "set.parquet").read_bytes()
    remote = Counting(data)
    with parquet_rows._copied(remote, ["image"], 7, 14) as copy:
        assert os.path.getsize(copy) == len(data)
        assert pq.ParquetFile(copy).read_row_group(1, ["image"]) == made.slice(7, 7).select(
            ["image"]
        )
    assert not os.path.exists(copy)
    pictures, footer = 7 * 2000, len(data) - 50 * 4000
    assert pictures < remote.num_bytes < 1.1 * pictures + footer


def test_no_reader_outlives_a_script(tmp_path):
    """Scripts that stop in the middle of a file end with their own status, not a signal."""
    put(str(tmp_path / "set.parquet"))
    code = (
        "from pipeline.sources.tables.parquet import read_rows; "
        f"rows = read_rows({str(tmp_path / 'set.parquet')!r}, ['image'], 0, 50); next(rows); "
        "raise SystemExit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7

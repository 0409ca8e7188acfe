"""A result is read back as it was written, and damage is told of."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import result_folder

from job.result import write
from job.result.read import load_result, read_sweep
from pipeline.errors import UserError
from pipeline.shards.assignments import SCHEMA, Assigned
from pipeline.shards.block import Block
from pipeline.shards.manifest import Manifest, Shard


def parquet(columns):
    """Returns the bytes of a Parquet file with `columns`."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A result of digits with assignments of two shards."""
    result_folder.digits(tmp_path)
    shards = tuple(Shard(f"images-{i}.tfrecord", 2, 1, "0") for i in range(2))
    manifest = Manifest((2,), 2, "uint8", 4, ("a", "b"), shards, 0, {}, "f")
    for number in range(2):
        block = Block([f"{number}/{i}" for i in range(2)], np.arange(2), np.zeros((2, 2), np.uint8))
        rows = Assigned(block, np.arange(2, dtype=np.int32), np.ones(2))
        write.write_shard_assignments(str(tmp_path), number, manifest, [rows])
    return tmp_path


def test_assignments_are_the_rows_of_all_files(folder):
    rows = load_result(str(folder)).assignments
    assert rows.schema == SCHEMA
    assert rows["id"].to_pylist() == ["0/0", "0/1", "1/0", "1/1"]
    assert rows["label_name"].to_pylist() == ["a", "b"] * 2


def test_a_result_without_assignments_has_no_rows(tmp_path):
    result_folder.embeddings(tmp_path)
    assert load_result(str(tmp_path)).assignments == SCHEMA.empty_table()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"PAR1 half", "Parquet"),
        (parquet({"id": ["a"]}), "its columns are not id, label, label_name, cluster, distance"),
    ],
)
def test_damaged_assignments_are_named(folder, content, why):
    (folder / "assignments" / "assignments-00001-of-00002.parquet").write_bytes(content)
    result = load_result(str(folder))
    with pytest.raises(UserError, match=rf"00001-of-00002\.parquet: no assignments .*{why}.* fit`"):
        _ = result.assignments


def test_a_process_that_reads_assignments_starts_no_thread(folder):
    """A thread of Arrow's that lives when the interpreter exits may abort the process."""
    script = (
        "import os, sys; from job.result.read import load_result as load\n"
        "import pyarrow.parquet; before = os.listdir('/proc/self/task')\n"
        "load(sys.argv[1]).assignments; assert os.listdir('/proc/self/task') == before"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_history_is_by_iteration_the_last_line_of_each(tmp_path):
    history = [
        {"iteration": i, "inertia": v, "changed": 0} for i, v in ((1, 9.0), (2, 5.0), (2, 4.0))
    ]
    result_folder.digits(tmp_path, history=history)
    found = load_result(str(tmp_path)).history
    assert [(row["iteration"], row["inertia"]) for row in found] == [(1, 9.0), (2, 4.0)]


def test_there_is_no_result_and_no_sweep(tmp_path):
    with pytest.raises(
        UserError, match=r"metrics\.json: no such file.* run `kmeans-job fit` first"
    ):
        load_result(str(tmp_path))
    assert read_sweep(str(tmp_path)) is None
    write.write_sweep(str(tmp_path), {"fits": []})
    assert read_sweep(str(tmp_path)) == {"fits": []}

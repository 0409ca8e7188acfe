"""Rows of the assignments: the columns of the contract, for every kind of label."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards.assignments import SCHEMA, Assigned, write_rows
from pipeline.shards.block import Block


def assigned(labels: list[int] | None, first: int = 0, num_images: int = 3) -> Assigned:
    """`num_images` images with ids from `first` on, at squared distances 0, 1, 4, …"""
    ids = [f"train/{number:05d}" for number in range(first, first + num_images)]
    block = Block(ids, None if labels is None else np.array(labels), np.zeros((num_images, 2)))
    clusters = np.arange(num_images, dtype=np.int32)
    return Assigned(block, clusters, np.arange(num_images, dtype=np.float64) ** 2)


def rows_of(parts: list[Assigned], label_names) -> pa.Table:
    write_rows(file := io.BytesIO(), parts, label_names)
    return pq.read_table(io.BytesIO(file.getvalue()))


def test_the_columns_in_their_order():
    rows = rows_of([assigned([2, 0, 1])], ("cat", "dog", "owl"))
    assert rows.schema == SCHEMA
    assert [(field.name, str(field.type), field.nullable) for field in rows.schema] == [
        ("id", "string", False),
        ("label", "int64", True),
        ("label_name", "string", True),
        ("cluster", "int32", False),
        ("distance", "float", False),
    ]
    assert rows.to_pydict() == {
        "id": ["train/00000", "train/00001", "train/00002"],
        "label": [2, 0, 1],
        "label_name": ["owl", "cat", "dog"],
        "cluster": [0, 1, 2],
        "distance": [0.0, 1.0, 2.0],
    }


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([3, 12, 3], (), ["3", "12", "3"]),  # names that are known only when all is read
        ([1, 5, 0], ("cat", "dog"), ["dog", "5", "cat"]),
        ([0, -1, 0], ("cat",), ["cat", None, "cat"]),
        (None, None, [None, None, None]),
    ],
)
def test_names_of_labels(labels, names, expected):
    rows = rows_of([assigned(labels)], names)
    assert rows["label_name"].to_pylist() == expected
    numbers = [None if label < 0 else label for label in labels or [-1] * 3]
    assert rows["label"].to_pylist() == numbers


def test_many_blocks_are_few_row_groups(monkeypatch):
    monkeypatch.setattr("pipeline.shards.assignments.ROW_GROUP", 10)
    parts = [assigned([0, 1, 2], first) for first in range(0, 30, 3)]
    write_rows(file := io.BytesIO(), parts, ())
    found = pq.ParquetFile(io.BytesIO(file.getvalue()))
    groups = [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert groups == [12, 12, 6]
    assert found.read()["id"].to_pylist() == [f"train/{number:05d}" for number in range(30)]


def test_no_image_at_all():
    assert rows_of([], None).schema == SCHEMA

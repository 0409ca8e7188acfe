"""Each file of a result is written whole, and read as it was written."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from job.kmeans.loop import IterationRecord
from job.result import write
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.manifest import Manifest, Shard


def manifest(num_shards: int, label_names=("cat", "dog")) -> Manifest:
    shards = tuple(Shard(f"images-{i}.tfrecord", 2, 1, "0") for i in range(num_shards))
    return Manifest((2,), 2, "uint8", 2 * num_shards, label_names, shards, 0, {}, "f")


def assigned(*labels: int) -> Assigned:
    count = len(labels)
    block = Block([str(i) for i in range(count)], np.array(labels), np.zeros((count, 2), np.uint8))
    return Assigned(block, np.arange(count, dtype=np.int32), np.full(count, 4.0))


def test_the_assignments_of_a_shard(tmp_path):
    write.write_shard_assignments(str(tmp_path), 1, manifest(3), [assigned(0, 1), assigned(1)])
    path = tmp_path / "assignments" / "assignments-00001-of-00003.parquet"
    rows = pq.read_table(path).to_pydict()
    assert rows["label_name"] == ["cat", "dog", "dog"]
    assert rows["distance"] == [2.0, 2.0, 2.0]


def test_assignments_of_another_number_of_shards_go(tmp_path):
    for count in (2, 3):
        for number in range(count):
            write.write_shard_assignments(str(tmp_path), number, manifest(count), [assigned(0)])
    write.remove_other_assignments(str(tmp_path), 3)
    names = sorted(path.name for path in (tmp_path / "assignments").iterdir())
    assert names == [f"assignments-0000{i}-of-00003.parquet" for i in range(3)]


def test_half_an_assignment_is_not_published(tmp_path):
    def dying():
        yield assigned(0)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write.write_shard_assignments(str(tmp_path), 0, manifest(1), dying())
    assert not list(tmp_path.rglob("*.parquet"))


def test_history_begins_with_what_is_kept_and_grows(tmp_path):
    (tmp_path / "history.jsonl").write_bytes(b"left by a run that died")
    record = IterationRecord(**dict.fromkeys(IterationRecord._fields, 1))
    history = write.History(str(tmp_path), b'{"iteration": 0}\n')
    history.write(record)
    history.flush()
    lines = (tmp_path / "history.jsonl").read_bytes()
    history.close()
    assert lines == history.text
    assert [json.loads(line)["iteration"] for line in lines.splitlines()] == [0, 1]


def test_json_keeps_names_readable(tmp_path):
    write.write_metrics(str(tmp_path), {"label_names": ["Größe"]})
    write.write_sweep(str(tmp_path), {"elbow": None})
    assert "Größe" in (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "sweep.json").read_text()) == {"elbow": None}


def test_arrays(tmp_path):
    centroids = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    write.write_centroids(str(tmp_path), centroids)
    write.write_examples(str(tmp_path), {"pixels": centroids, "ids": np.array(["a", "b", "c"])})
    np.testing.assert_array_equal(np.load(tmp_path / "centroids.npy"), centroids)
    with np.load(tmp_path / "examples.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == ["a", "b", "c"]

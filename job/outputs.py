"""The result folder: assignments, examples, history, centroids, and metrics.json last."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import Block, Manifest, read_shard

if TYPE_CHECKING:
    from job.assigned import Assigned
    from job.loop import IterationRecord

CENTROIDS, HISTORY, METRICS = "centroids.npy", "history.jsonl", "metrics.json"
ASSIGNMENTS, EXAMPLES, REPORT = "assignments", "examples.npz", "report.html"
OURS = (METRICS, CENTROIDS, HISTORY, ASSIGNMENTS, EXAMPLES, REPORT)
ROW_GROUP = 65_536
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("distance", pa.float32(), nullable=False),
    ]
)


def prepare(folder: str, overwrite: bool, also: tuple[str, ...] = ()) -> None:
    """Makes `folder` ready for a result; removes what a run that died left there.

    Args:
      also: names that may be in it besides a result's.

    Raises:
      UserError: it holds a result and `overwrite` is false, or files that are not ours.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UserError(f"--output {folder}: a file; give a folder")
    names = storage.list_names(folder)
    temporary = [name for name in names if name.endswith(storage.TEMPORARY_SUFFIX)]
    if foreign := sorted(set(names) - {*OURS, *also, *temporary}):
        raise UserError(
            f"--output {folder}: holds something else ({foreign[0]}); give a new or empty folder"
        )
    if METRICS in names and not overwrite:
        raise UserError(f"--output {folder}: holds a result; add --overwrite to replace it")
    # metrics.json first: without it nobody takes the rest for a result.
    for name in (*OURS, *temporary):
        storage.remove(storage.join(folder, name))
    storage.make_folder(folder)


def write_assignments(
    folder: str, shards: str, manifest: Manifest, assign: "Callable[[Block], Assigned]"
) -> Iterator[int]:
    """Shard in, Parquet out; yields how many images are written after each shard.

    Raises:
      UserError: a shard is not the one the manifest describes any more.
    """
    done = 0
    for number, shard in enumerate(manifest.shards):
        name = f"assignments-{number:05d}-of-{len(manifest.shards):05d}.parquet"
        with (
            storage.publish(storage.join(folder, ASSIGNMENTS, name)) as file,
            pq.ParquetWriter(file, SCHEMA) as writer,
        ):
            for table in _tables(map(assign, read_shard(shards, shard, manifest))):
                writer.write_table(table)
        done += shard.num_images
        yield done


def _tables(parts: "Iterator[Assigned]") -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for assigned in parts:
        held.append(_rows(assigned))
        if sum(len(batch) for batch in held) >= ROW_GROUP:
            yield pa.Table.from_batches(held, SCHEMA)
            held = []
    yield pa.Table.from_batches(held, SCHEMA)


def _rows(assigned: "Assigned") -> pa.RecordBatch:
    block, clusters, squared = assigned
    labels = pa.nulls(len(clusters), pa.int64()) if block.labels is None else block.labels
    distances = np.sqrt(squared).astype(np.float32)
    return pa.record_batch([pa.array(block.ids), labels, clusters, distances], schema=SCHEMA)


class History:
    """history.jsonl, a line as each iteration ends."""

    def __init__(self, folder: str):
        self._file = storage.open_append(storage.join(folder, HISTORY))

    def write(self, record: "IterationRecord") -> None:
        """Appends a line."""
        self._file.write(f"{json.dumps(record._asdict())}\n".encode())

    def close(self) -> None:
        self._file.close()


def write_centroids(folder: str, centroids: np.ndarray) -> None:
    """Publishes centroids.npy: float32 [k, d]."""
    with storage.publish(storage.join(folder, CENTROIDS)) as file:
        np.save(file, centroids)


def write_examples(folder: str, columns: dict[str, np.ndarray]) -> None:
    """Publishes examples.npz, from which the report is made."""
    with storage.publish(storage.join(folder, EXAMPLES)) as file:
        np.savez_compressed(file, allow_pickle=False, **columns)


def write_metrics(folder: str, metrics: dict[str, Any]) -> None:
    """Publishes metrics.json, which completes the result."""
    text = json.dumps(metrics, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes(storage.join(folder, METRICS), text.encode())

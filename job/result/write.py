"""Writes the files of a result folder, each whole or not at all."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np

from job.result.folder import CENTROIDS, EXAMPLES, FINDINGS, HISTORY, METRICS, SWEEP
from pipeline import storage
from pipeline.shards import json_text
from pipeline.shards.assignments import ASSIGNMENTS, Assigned, assignments_file, write_rows
from pipeline.shards.manifest import Manifest

if TYPE_CHECKING:
    from job.kmeans.loop import IterationRecord


QUICK_LEVEL = 3  # of zlib


def remove_other_assignments(folder: str, num_shards: int) -> None:
    """Removes assignments of another number of shards, which no file here would replace."""
    ours = {assignments_file(number, num_shards) for number in range(num_shards)}
    for name in storage.list_names(storage.join(folder, ASSIGNMENTS)):
        if name.endswith(".parquet") and name not in ours:
            storage.remove(storage.join(folder, ASSIGNMENTS, name))


def write_shard_assignments(
    folder: str, number: int, manifest: Manifest, assigned: Iterable[Assigned]
) -> None:
    """Publishes the assignments of shard `number` of a set of images."""
    path = storage.join(folder, ASSIGNMENTS, assignments_file(number, len(manifest.shards)))
    with storage.publish(path) as file:
        write_rows(file, assigned, manifest.label_names)


class History:
    """Writes history.jsonl, a line at the end of each iteration.

    Attributes:
      text: all that the file holds so far.
    """

    def __init__(self, folder: str, text: bytes = b""):
        """Replaces what a run that died may have left there by the lines `text`."""
        self.text, self._file = text, storage.open_log(storage.join(folder, HISTORY), text)

    def write(self, record: "IterationRecord") -> None:
        """Appends a line."""
        line = f"{json.dumps(record._asdict())}\n".encode()
        self._file.write(line)
        self.text += line

    def flush(self) -> None:
        """Returns once the file has all lines, remote ones included."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def write_centroids(folder: str, centroids: np.ndarray) -> None:
    """Publishes centroids.npy: float32 [k, d]."""
    with storage.publish(storage.join(folder, CENTROIDS)) as file:
        np.save(file, centroids)


def write_examples(folder: str, columns: dict[str, np.ndarray]) -> None:
    """Publishes examples.npz, from which the report is made."""
    with storage.publish(storage.join(folder, EXAMPLES)) as file:
        # Vectors hardly get smaller, and it takes as long as all else that is written. More of the
        # other levels would save a few percent of the bytes for twice the time.
        kind = ZIP_STORED if columns["pixels"].dtype == np.float32 else ZIP_DEFLATED
        with ZipFile(file, "w", kind, compresslevel=QUICK_LEVEL) as packed:
            for name, values in columns.items():
                with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)


def copy_transform(shards_folder: str, folder: str, manifest: Manifest) -> None:
    """Copies the file of the transform that made vectors of the images, if there is one."""
    if manifest.transform is not None:
        name = manifest.transform.file
        storage.copy(storage.join(shards_folder, name), storage.join(folder, name))


def write_findings(folder: str, findings: dict[str, Any]) -> None:
    """Publishes findings.json."""
    storage.write_bytes(storage.join(folder, FINDINGS), json_text.encode(findings))


def write_metrics(folder: str, metrics: dict[str, Any]) -> None:
    """Publishes metrics.json, which completes the result."""
    _write_json(storage.join(folder, METRICS), metrics)


def write_sweep(folder: str, sweep: dict[str, Any]) -> None:
    """Publishes sweep.json, which completes a sweep."""
    _write_json(storage.join(folder, SWEEP), sweep)


def _write_json(path: str, values: dict[str, Any]) -> None:
    storage.write_once(path, json_text.encode(values))

"""The result folder: assignments, examples, history, centroids, and metrics.json last."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from job.config import k_folder
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.assignments import ASSIGNMENTS, Assigned, assignments_file, write_rows
from pipeline.shards.manifest import TRANSFORM_FILES, Manifest

if TYPE_CHECKING:
    from job.kmeans.loop import IterationRecord

CENTROIDS, HISTORY, METRICS = "centroids.npy", "history.jsonl", "metrics.json"
EXAMPLES, REPORT, MODEL = "examples.npz", "report.html", "model"
CHECKPOINT = "checkpoint"
SWEEP, SWEEP_REPORT = "sweep.json", "sweep.html"
OURS = (
    METRICS,
    CENTROIDS,
    HISTORY,
    ASSIGNMENTS,
    EXAMPLES,
    REPORT,
    MODEL,
    CHECKPOINT,
    *TRANSFORM_FILES,
)


def prepare(folder: str, overwrite: bool, also: tuple[str, ...] = ()) -> None:
    """Makes `folder` ready for a result; of a run that died only what it can go on from stays.

    Args:
      overwrite: nothing stays.
      also: names that may be in it besides a result's.

    Raises:
      UserError: it holds a result and `overwrite` is false, or files that are not ours.
    """
    names = _names_of_ours(folder, {*OURS, *also})
    if METRICS in names and not overwrite and not is_all_but_done(folder):
        raise UserError(f"--output {folder}: holds a result; add --overwrite to replace it")
    if overwrite:
        # metrics.json first: without it nobody takes the rest for a result.
        for name in OURS:
            storage.remove(storage.join(folder, name))
    below = (ASSIGNMENTS, CHECKPOINT, MODEL, storage.join(MODEL, "variables"))
    for part in (folder, *(storage.join(folder, name) for name in below)):
        for name in storage.list_names(part):
            if name.endswith(storage.TEMPORARY_SUFFIX):
                storage.remove(storage.join(part, name))
    storage.make_folder(folder)


def prepare_any(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """`prepare` for one k, `prepare_sweep` for several."""
    if len(ks) > 1:
        prepare_sweep(folder, ks, overwrite, also)
    else:
        prepare(folder, overwrite, also)


def prepare_sweep(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """Makes `folder` ready for the results of `ks`; those of a run that died stay.

    Args, raises: as `prepare`.
    """
    found = [name for name in storage.list_names(folder) if re.fullmatch(r"k=\d+", name)]
    names = _names_of_ours(folder, {SWEEP, SWEEP_REPORT, *found, *also})
    if overwrite:
        # sweep.json first: without it nobody takes the rest for a result.
        for name in (SWEEP, SWEEP_REPORT, *found):
            storage.remove(storage.join(folder, name))
    elif SWEEP in names:
        raise UserError(f"--output {folder}: holds a sweep; add --overwrite to replace it")
    elif others := sorted(set(found) - {k_folder(k) for k in ks}):
        raise UserError(
            f"--output {folder}: holds {others[0]} of an unfinished sweep; give that k too, "
            "another --output, or --overwrite to start anew"
        )
    for name in names:
        if name.endswith(storage.TEMPORARY_SUFFIX):
            storage.remove(storage.join(folder, name))
    storage.make_folder(folder)


def _names_of_ours(folder: str, ours: set[str]) -> list[str]:
    """Names in the output folder, all of them `ours` or temporary.

    Raises:
      UserError: it is a file, or holds something else.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UserError(f"--output {folder}: a file; give a folder")
    names = storage.list_names(folder)
    for name in sorted(set(names) - ours):
        if not name.endswith(storage.TEMPORARY_SUFFIX):
            raise UserError(
                f"--output {folder}: holds something else ({name}); give a new or empty folder"
            )
    return names


def is_finished(folder: str) -> bool:
    """Whether the result is complete, and its run has come to its end."""
    names = storage.list_names(folder)
    return METRICS in names and CHECKPOINT not in names


def is_all_but_done(folder: str) -> bool:
    """Whether the result is complete, but the run was killed before it removed the checkpoint."""
    return {METRICS, CHECKPOINT} <= set(storage.list_names(folder))


def remove_other_assignments(folder: str, num_shards: int) -> None:
    """Removes assignments of another number of shards, which no file here would replace."""
    ours = {assignments_file(number, num_shards) for number in range(num_shards)}
    for name in storage.list_names(storage.join(folder, ASSIGNMENTS)):
        if name.endswith(".parquet") and name not in ours:
            storage.remove(storage.join(folder, ASSIGNMENTS, name))


def write_assignments(
    folder: str,
    number: int,
    num_shards: int,
    assigned: Iterable[Assigned],
    label_names: Sequence[str] | None,
) -> None:
    """Publishes the assignments of shard `number`."""
    path = storage.join(folder, ASSIGNMENTS, assignments_file(number, num_shards))
    with storage.publish(path) as file:
        write_rows(file, assigned, label_names)


class History:
    """history.jsonl, a line as each iteration ends.

    Attributes:
      text: of the file.
    """

    def __init__(self, folder: str, text: bytes = b""):
        """Begins with the lines `text`, whatever a run that died left there."""
        self.text, self._file = text, storage.open_log(storage.join(folder, HISTORY), text)

    def write(self, record: "IterationRecord") -> None:
        """Appends a line."""
        line = f"{json.dumps(record._asdict())}\n".encode()
        self._file.write(line)
        self.text += line

    def flush(self) -> None:
        """The file has all lines, wherever it is."""
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
        np.savez_compressed(file, allow_pickle=False, **columns)


def copy_transform(shards_folder: str, folder: str, manifest: Manifest) -> None:
    """Publishes what made vectors of the images, if they are vectors, beside the centroids."""
    if manifest.transform is not None:
        name = manifest.transform.file
        storage.copy(storage.join(shards_folder, name), storage.join(folder, name))


def write_metrics(folder: str, metrics: dict[str, Any]) -> None:
    """Publishes metrics.json, which completes the result."""
    _write_json(storage.join(folder, METRICS), metrics)


def write_sweep(folder: str, sweep: dict[str, Any]) -> None:
    """Publishes sweep.json, which completes a sweep."""
    _write_json(storage.join(folder, SWEEP), sweep)


def _write_json(path: str, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    storage.write_once(path, text.encode())

"""The result folder: the names of its files, and how it is made ready for them."""

import re
from collections.abc import Sequence

from job.config import k_folder
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.assignments import ASSIGNMENTS
from pipeline.shards.manifest import TRANSFORM_FILES

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


def prepare_result(folder: str, overwrite: bool, also: tuple[str, ...] = ()) -> None:
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


def prepare_output(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """`prepare_result` for one k, `prepare_sweep` for several."""
    if len(ks) > 1:
        prepare_sweep(folder, ks, overwrite, also)
    else:
        prepare_result(folder, overwrite, also)


def prepare_sweep(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """Makes `folder` ready for the results of `ks`; those of a run that died stay.

    Args, raises: as `prepare_result`.
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

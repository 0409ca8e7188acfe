"""The result folder: the names of its files, and how it is made ready for them."""

import re
from collections.abc import Sequence

from job.config import k_folder
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.assignments import ASSIGNMENTS
from pipeline.shards.manifest import TRANSFORM_FILES

CENTROIDS, HISTORY, METRICS = "centroids.npy", "history.jsonl", "metrics.json"
FINDINGS, EXAMPLES = "findings.json", "examples.npz"
REPORT, MODEL = "report.html", "model"
CHECKPOINT = "checkpoint"
SWEEP, SWEEP_REPORT = "sweep.json", "sweep.html"
FILES = (METRICS, CENTROIDS, HISTORY, FINDINGS, EXAMPLES, REPORT, *TRANSFORM_FILES)
OURS = (*FILES, ASSIGNMENTS, MODEL, CHECKPOINT)


def prepare_result(folder: str, overwrite: bool, also: tuple[str, ...] = ()) -> None:
    """Makes `folder` ready for a result; keeps what a run that died can be resumed from.

    Args:
      folder: made if it is missing.
      overwrite: removes a result, or what is left of one.
      also: names that the folder may hold besides a result's.

    Raises:
      UserError: it holds a result and `overwrite` is false, or files of somebody else.
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
        _remove_temporary(part)
    storage.make_folder(folder)


def prepare_output(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """Makes `folder` ready for a result if there is one k, for a sweep if there are several."""
    if len(ks) > 1:
        prepare_sweep(folder, ks, overwrite, also)
    else:
        prepare_result(folder, overwrite, also)


def prepare_sweep(
    folder: str, ks: Sequence[int], overwrite: bool, also: tuple[str, ...] = ()
) -> None:
    """Makes `folder` ready for the results of a sweep over `ks`; keeps those that are finished.

    Args:
      folder, overwrite, also: as for `prepare_result`.

    Raises:
      UserError: as `prepare_result`, or it holds a result for a k that is not among `ks`.
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
    _remove_temporary(folder)
    storage.make_folder(folder)


def _remove_temporary(folder: str) -> None:
    """Removes the half-written files that a run which died has left in `folder`."""
    for name in storage.list_names(folder):
        if name.endswith(storage.TEMPORARY_SUFFIX):
            storage.remove(storage.join(folder, name))


def _names_of_ours(folder: str, ours: set[str]) -> list[str]:
    """The names in the output folder, each of them one of `ours` or that of a temporary file.

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
    folders = storage.folders(folder) if names else ()
    if mistaken := sorted({*FILES, SWEEP, SWEEP_REPORT}.intersection(folders)):
        # Somebody may have unpacked something there: it would be taken for a file, and be removed.
        raise UserError(
            f"--output {folder}: holds a folder {mistaken[0]}; give a new or empty folder"
        )
    return names


def is_finished(folder: str) -> bool:
    """Whether the result is complete and its run has ended."""
    names = storage.list_names(folder)
    return METRICS in names and CHECKPOINT not in names


def is_all_but_done(folder: str) -> bool:
    """Whether the result is complete, but the run was killed before it removed the checkpoint."""
    return {METRICS, CHECKPOINT} <= set(storage.list_names(folder))

"""Reads a finished result back from its folder."""

import dataclasses
import functools
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from job.result.folder import (
    ASSIGNMENTS,
    CENTROIDS,
    EXAMPLES,
    FINDINGS,
    HISTORY,
    METRICS,
    SWEEP,
    is_finished,
)
from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import Drawable
from pipeline.features.source import load_drawable
from pipeline.shards.assignments import SCHEMA
from pipeline.shards.manifest import MANIFEST, TransformFile


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The content of a result folder.

    Attributes:
      folder: its path.
      metrics: the content of metrics.json.
      centroids: float32 [k, d].
      history: the lines of history.jsonl for the published restart, by iteration; [] for new
        images that were assigned.
      examples: the columns of examples.npz: pixels [m, d]; ids, labels, clusters, distances and
        kinds [m]; and thumbnails [m], if the shards have some.
      drawable: the transform of the images, if its vectors can become images again; else None.
      findings: the content of findings.json; None where an older version wrote the result.
    """

    folder: str
    metrics: dict[str, Any]
    centroids: NDArray[np.float32]
    history: list[dict[str, Any]]
    examples: dict[str, np.ndarray]
    drawable: Drawable | None = None
    findings: dict[str, Any] | None = None

    @functools.cached_property
    def assignments(self) -> pa.Table:
        """The assignments, read when first used: a row for each image.

        Columns: id, label and label_name (null if there is none), cluster, distance.

        Raises:
          UserError: a file of the assignments cannot be read.
        """
        folder = storage.join(self.folder, ASSIGNMENTS)
        names = [name for name in storage.list_names(folder) if name.endswith(".parquet")]
        tables = [_rows(storage.join(folder, name)) for name in names]
        return pa.concat_tables([SCHEMA.empty_table(), *tables])


def load_result(folder: str) -> Result:
    """Reads the finished result in `folder`.

    Raises:
      UserError: there is no finished result, or a file of it cannot be read.
    """
    return read(folder, read_metrics(folder))


def read_metrics(folder: str) -> dict[str, Any]:
    """Reads metrics.json of the finished result in `folder`.

    Raises:
      UserError: there is none, or it is not JSON.
    """
    path = storage.join(folder, METRICS)
    if absence := storage.absence(path):
        raise UserError(
            f"{path}: {absence}, so there is no finished result; run `kmeans-job fit` first"
        )
    metrics = _json(path, storage.read_bytes(path))
    if is_assigned(metrics) and not storage.exists(storage.join(folder, MANIFEST)):
        raise UserError(
            f"{folder}: `kmeans-job assign` was interrupted there; run the same command again"
        )
    return metrics


def is_assigned(metrics: dict[str, Any]) -> bool:
    """Whether a metrics.json is one of `assign`, about new images, and not one of a fit."""
    return "drift" in metrics


def read_finished(folder: str) -> dict[str, Any] | None:
    """Reads metrics.json of the finished result in `folder`; None if there is none."""
    return read_metrics(folder) if is_finished(folder) else None


def read_sweep(folder: str) -> dict[str, Any] | None:
    """Reads sweep.json of the finished sweep in `folder`; None if there is no finished sweep."""
    path = storage.join(folder, SWEEP)
    return _json(path, storage.read_bytes(path)) if storage.is_file(path) else None


def read(
    folder: str, metrics: dict[str, Any], examples: dict[str, np.ndarray] | None = None
) -> Result:
    """Reads the result in `folder`, apart from metrics.json, which need not be written yet.

    Args:
      metrics: the content of metrics.json.
      examples: the columns of examples.npz; None: they are read, too.

    Raises:
      UserError: a file of the result cannot be read.
    """
    path = storage.join(folder, HISTORY)
    lines = [] if is_assigned(metrics) else storage.read_bytes(path).splitlines()
    rows = [_json(path, line) for line in lines if line.strip()]
    restart = metrics.get("restart")
    rows = [row for row in rows if row.get("restart", restart) == restart]
    history = {row["iteration"]: row for row in rows}
    if examples is None:
        file = _arrays(storage.join(folder, EXAMPLES))
        examples = {name: file[name] for name in file.files}
    transform = TransformFile.from_fields(metrics.get("transform"))
    return Result(
        folder,
        metrics,
        _arrays(storage.join(folder, CENTROIDS)),
        [history[iteration] for iteration in sorted(history)],
        examples,
        load_drawable(folder, transform) if transform else None,
        read_findings(folder),
    )


def read_findings(folder: str) -> dict[str, Any] | None:
    """Reads findings.json in `folder`; None if an older version wrote the result there."""
    path = storage.join(folder, FINDINGS)
    return _json(path, storage.read_bytes(path)) if storage.exists(path) else None


def read_assigned(folder: str, name: str, columns: list[str] | None = None) -> pa.Table:
    """Reads `columns`, by default all, of the file `name` of the assignments in `folder`.

    Raises:
      UserError: it cannot be read.
    """
    return _rows(storage.join(folder, ASSIGNMENTS, name), columns)


def _json(path: str, text: bytes) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run `kmeans-job fit` again") from error


def _rows(path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        # No threads and no Python file: a thread of Arrow's that is still at work, or still
        # being joined, when the interpreter exits aborts a process whose work is done.
        source = pa.BufferReader(storage.read_bytes(path))
        file = pq.ParquetFile(source, pre_buffer=False)
        if file.schema_arrow != SCHEMA:
            raise pa.ArrowInvalid(f"its columns are not {', '.join(SCHEMA.names)}")
        return file.read(columns, use_threads=False)
    except pa.ArrowException as error:
        raise UserError(f"{path}: no assignments ({error}); run `kmeans-job fit` again") from error


def _arrays(path: str) -> Any:
    try:
        return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: no numpy file ({error}); run `kmeans-job fit` again") from error

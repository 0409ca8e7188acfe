"""A finished result, read back from its folder."""

import io
import json
from typing import Any, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.pca import Pca
from pipeline.shards import TransformFile
from pipeline.transformed import load_pca


class Result(NamedTuple):
    """What a result folder says.

    Attributes:
      metrics: metrics.json.
      centroids: float32 [k, d].
      history: of the published restart, by iteration.
      examples: pixels [m, d], ids, labels, clusters, distances, kinds, each [m].
      pca: the principal components that the images became; None where they became none.
    """

    metrics: dict[str, Any]
    centroids: np.ndarray
    history: list[dict[str, Any]]
    examples: dict[str, np.ndarray]
    pca: Pca | None = None


def read_metrics(folder: str) -> dict[str, Any]:
    """metrics.json of the finished result in `folder`."""
    path = storage.join(folder, "metrics.json")
    if not storage.exists(path):
        raise UserError(
            f"{path}: no such file, so there is no finished result; run `kmeans-job fit` first"
        )
    return _json(path, storage.read_bytes(path))


def read(folder: str, metrics: dict[str, Any]) -> Result:
    """Reads the result in `folder`, whose metrics.json says or will say `metrics`."""
    path = storage.join(folder, "history.jsonl")
    lines = storage.read_bytes(path).splitlines()
    rows = [_json(path, line) for line in lines if line.strip()]
    restart = metrics.get("restart")
    rows = [row for row in rows if row.get("restart", restart) == restart]
    history = {row["iteration"]: row for row in rows}
    examples = _arrays(storage.join(folder, "examples.npz"))
    transform = TransformFile.from_fields(metrics.get("transform"))
    return Result(
        metrics,
        _arrays(storage.join(folder, "centroids.npy")),
        [history[iteration] for iteration in sorted(history)],
        {name: examples[name] for name in examples.files},
        load_pca(folder, transform) if transform else None,
    )


def _json(path: str, text: bytes) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run `kmeans-job fit` again") from error


def _arrays(path: str) -> Any:
    try:
        return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: no numpy file ({error}); run `kmeans-job fit` again") from error

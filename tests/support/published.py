"""What a fit left in its output folder, read from the files as a user would."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class Published(NamedTuple):
    """A result.

    Attributes:
      folder: where it lies.
      metrics: metrics.json.
      centroids: float32 [k, d].
      rows: of the Parquet files, sorted by id.
      history: the lines of history.jsonl.
    """

    folder: Path
    metrics: dict[str, Any]
    centroids: np.ndarray
    rows: pa.Table
    history: list[dict[str, Any]]

    @property
    def clusters(self) -> np.ndarray:
        return self.rows["cluster"].to_numpy()

    @property
    def distances(self) -> np.ndarray:
        return self.rows["distance"].to_numpy()

    def bits(self) -> dict[str, Any]:
        """All that must not depend on how the images lie and on what computes."""
        kept = {"iterations", "converged", "inertia", "cluster_sizes", "contingency", "fingerprint"}
        history = [{**line, "seconds": None} for line in self.history]
        return {
            **{name: self.metrics[name] for name in kept},
            "centroids": self.centroids.tobytes(),
            "assignments": self.rows.to_pydict(),
            "history": history,
        }


def read(folder: Path) -> Published:
    """Reads the result in `folder`."""
    return Published(
        folder,
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        np.load(folder / "centroids.npy"),
        pq.read_table(folder / "assignments").sort_by("id"),
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()],
    )

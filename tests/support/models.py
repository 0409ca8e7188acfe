"""Models for tests of `assign`, without a fit."""

import json
from pathlib import Path

import numpy as np


def save_model(folder: Path, centroids: np.ndarray, shape: tuple[int, ...], dtype="uint8") -> Path:
    """Writes what `assign` reads of a result."""
    folder.mkdir()
    np.save(folder / "centroids.npy", centroids.astype(np.float32))
    facts = {"image_shape": shape, "dtype": dtype, "num_clusters": len(centroids)}
    (folder / "metrics.json").write_text(json.dumps(facts))
    return folder

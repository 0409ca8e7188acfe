"""Drift: new images that are farther from their centroid than any image of the fit was."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from job.report.formatting import percent
from job.result.findings import Ids, Rows, leading

MAX_FARTHER = 200


class Drift(NamedTuple):
    """New images that are farther from their centroid than any image of the fit.

    Attributes:
      counts: of such images, by cluster, int64 [k].
      farther: the farthest ones, relative to the fit's, as findings.json lists them.
      rows: the row of each image that `farther` names, by id.
    """

    counts: np.ndarray
    farther: list[dict[str, Any]]
    rows: dict[str, int]


def find_drift(rows: Rows, ids: Ids, limits: Sequence[float | None]) -> Drift:
    """Finds the images that are farther from their centroid than any image of the fit.

    Args:
      ids: function (rows [m], ascending) → their ids.
      limits: the largest distance of an image of the fit, by cluster; None: it had none there.
    """
    # A cluster without images in the fit is new to it altogether.
    bounds = np.array([-1.0 if limit is None else limit for limit in limits], np.float32)
    own = bounds[rows.clusters]
    beyond = np.flatnonzero(rows.distances > own)
    ratios = np.full(len(own), np.inf)
    np.divide(rows.distances, own, out=ratios, where=own > 0, dtype=np.float64)
    found = leading(beyond, [-ratios, -rows.distances], MAX_FARTHER)
    found = np.sort(found)
    names = dict(zip(found.tolist(), ids(found), strict=True))
    order = sorted(names, key=lambda row: (-ratios[row], -rows.distances[row], names[row]))
    farther = [
        {
            "id": names[row],
            "cluster": int(rows.clusters[row]),
            "distance": float(rows.distances[row]),
            "farthest": limits[rows.clusters[row]],
        }
        for row in order[:MAX_FARTHER]
    ]
    counts = np.bincount(rows.clusters[beyond], minlength=len(limits))
    return Drift(counts, farther, {name: row for row, name in names.items()})


def drift_line(metrics: dict[str, Any]) -> str:
    """Says how many images have drifted, from the metrics.json of `assign`."""
    count, images = metrics["num_farther"], metrics["num_images"]
    if count is None:
        return "not known: the model has no findings.json, as an older version wrote it; fit again"
    share = percent(metrics["drift"]).replace("\u00a0", " ")
    return (
        f"{count:,} of {images:,} images ({share}) are farther from their centroid than any image "
        "of the fit"
    )

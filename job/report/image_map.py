"""The map of the images: a sample of them, every outlier and representative, on a plane."""

import json
import math
from typing import Any, NamedTuple

import numpy as np

from job.report import pictures
from job.report.axes import main_axes
from job.report.clusters import as_images
from job.report.formatting import bounded
from job.report.look import MAX_IDS, representatives
from job.result.examples import FINDING, MAX_SAMPLE, SAMPLE
from job.result.read import Result

PROJECTED = 64  # images at a time: of all, float64 copies would be larger than the rest
GRID = 10_000  # places along an axis: coordinates are whole numbers
SIDES = {1: 24, 3: 20}  # pixels of a thumbnail's longer side, by channels
MIN_POINTS, FILLING = 3, 1_000  # images; from so many come axes that centroids do not give


class ImageMap(NamedTuple):
    """A map, as the page's script reads it.

    Attributes:
      num_points: on it.
      data: JSON: columns of the points, names of labels, and how thumbnails lie in the sheet.
      sheet: data URI of all thumbnails, row by row; None where images cannot be drawn.
    """

    num_points: int
    data: str
    sheet: str | None


def image_map(result: Result, names: list[str]) -> ImageMap | None:
    """Places the images on the plane of the centroids' largest variance.

    Returns:
      None where an older version wrote the result, without a sample, or there is too little.
    """
    examples = result.examples
    if not (examples["kinds"] == SAMPLE).any():
        return None
    rows = _chosen(result)
    if len(rows) < MIN_POINTS:
        return None
    pixels, labels = examples["pixels"][rows], examples["labels"][rows]
    places = coordinates(pixels, result.centroids)
    sheet, layout = _sheet(result, {name: values[rows] for name, values in examples.items()})
    known = np.unique(labels[labels >= 0]).tolist()
    data: dict[str, Any] = {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "cluster": examples["clusters"][rows].tolist(),
        "label": labels.tolist(),
        "distance": [float(f"{value:.4g}") for value in examples["distances"][rows]],
        "id": [bounded(name, MAX_IDS) for name in examples["ids"][rows]],
        "names": {label: names[label] if label < len(names) else str(label) for label in known},
        **layout,
    }
    return ImageMap(len(rows), json.dumps(data, separators=(",", ":")), sheet)


def _chosen(result: Result) -> np.ndarray:
    """The rows of the examples that are on the map: what the page lists first, then the sample."""
    examples = result.examples
    nearest = [row for row in representatives(result) if row >= 0]
    of_kind = [np.flatnonzero(examples["kinds"] == kind) for kind in (FINDING, SAMPLE)]
    rows = np.concatenate([of_kind[0], nearest, of_kind[1]]).astype(int)
    # Some images are examples of several kinds; ids are unique in a set.
    _, first = np.unique(examples["ids"][rows], return_index=True)
    return rows[np.sort(first)][:MAX_SAMPLE]


def coordinates(images: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Projects images [m, d] to whole numbers 0 … GRID, int64 [m, 2], on one scale.

    The axes are those of the centroids' largest variance; where they have fewer than two, as one
    or two centroids do, those of the images fill in. Signs are a convention.

    Args:
      images: uint8, or float32 in published units, in which `centroids` [k, d] are too.
    """
    units = 255.0 if images.dtype == np.uint8 else 1.0
    centre = centroids.mean(axis=0, dtype=np.float64)
    axes = _signed(main_axes(centroids - centre))
    if len(axes) < 2:
        rest = images[:FILLING] / units - centre
        rest = rest - (rest @ axes.T) @ axes
        rest = rest - rest.mean(axis=0)
        axes = np.concatenate([axes, _signed(main_axes(rest))])[:2]
    points = np.zeros((len(images), 2))
    for start in range(0, len(images), PROJECTED):
        part = slice(start, start + PROJECTED)
        points[part, : len(axes)] = (images[part] / units - centre) @ axes.T
    low, high = points.min(axis=0), points.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-30)
    return np.rint((points - (low + high) / 2) * scale + GRID / 2).astype(int)


def _signed(axes: np.ndarray) -> np.ndarray:
    """Turns unit vectors [., d] so that their largest number is positive."""
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return axes * signs[:, None]


def _sheet(result: Result, examples: dict[str, np.ndarray]) -> tuple[str | None, dict[str, int]]:
    """Draws all thumbnails into one picture; its data URI and how they lie in it."""
    if photos := pictures.photos_of(examples):
        drawn = pictures.fitted(photos, SIDES[3])
    else:
        _, images, shape = as_images(result, examples["pixels"])
        if len(shape) < 2:
            return None, {}
        drawn = pictures.as_pictures(pictures.brightened(images), shape)
    height, width = drawn.shape[1:3]
    scale = min(1.0, SIDES[3 if drawn.ndim == 4 else 1] / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = math.ceil(math.sqrt(len(drawn) * size[1] / size[0]))
    return pictures.sheet(drawn, size, columns), {
        "width": size[0],
        "height": size[1],
        "columns": columns,
    }

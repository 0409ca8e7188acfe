"""The geometry of the report's drawings: charts, lines of vectors, the map of the centroids.

It is given as numbers and SVG path data; the templates add colours and words.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from job.report.axes import main_axes

CHART_WIDTH, CHART_HEIGHT = 520, 220
CHART_MARGINS = (16, 12, 30, 68)  # top, right, bottom, left
SPARK_WIDTH, SPARK_HEIGHT, SPARK_POINTS = 120, 48, 60
MAP_WIDTH, MAP_HEIGHTS, MAP_RADII = 960, (260, 560), (7.0, 34.0)


class Tick(NamedTuple):
    """A mark on an axis: where it is, and its text."""

    position: float
    text: str


class Dot(NamedTuple):
    """A dot on a chart's line; a marked one stands out."""

    x: float
    y: float
    marked: bool


class Chart(NamedTuple):
    """A line over whole numbers, in a box of CHART_WIDTH × CHART_HEIGHT.

    Attributes:
      path: SVG path data of the line.
      dots: on it.
      x_ticks, y_ticks: marks below and left of the box.
    """

    path: str
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


class Bubble(NamedTuple):
    """A circle of the map: centre and radius."""

    x: float
    y: float
    radius: float


class Map(NamedTuple):
    """Centroids on their plane of largest variance, in a box of MAP_WIDTH × `height`.

    Attributes:
      bubbles: one for each cluster, area by count.
      height: of the box.
      variance_share: the share of the centroids' variance that the two axes hold.
    """

    bubbles: list[Bubble]
    height: float
    variance_share: float


def sparks(centroids: np.ndarray) -> list[str]:
    """Draws vectors [k, d] as lines, all on one scale; returns SVG path data of each."""
    low, high = float(centroids.min()), float(centroids.max())
    return [spark_path(centroid, low, high) for centroid in centroids]


def spark_path(values: np.ndarray, low: float, high: float) -> str:
    """SVG path data of a vector [d] in a box of SPARK_WIDTH × SPARK_HEIGHT.

    `low` is at the bottom, `high` at the top. Of more than SPARK_POINTS values the line shows
    means of consecutive ones.
    """
    parts = np.array_split(values, min(len(values), SPARK_POINTS))
    means = np.array([part.mean() for part in parts])
    y = 2 + (SPARK_HEIGHT - 4) * (high - means) / ((high - low) or 1)
    y = np.repeat(y, 2) if len(y) == 1 else y
    return _path(np.linspace(0, SPARK_WIDTH, len(y)), y)


def chart(
    numbers: Sequence[int],
    values: Sequence[float],
    logarithmic: bool = False,
    dots: Sequence[int] = (-1,),
    marked: int | None = None,
) -> Chart:
    """Draws `values` over ascending `numbers`; a logarithmic axis shows log(1 + value).

    Args:
      dots: indices of the values that get a dot.
      marked: the index of a dot that stands out.
    """
    x = np.asarray(numbers, float)
    y = np.asarray(values, float)
    marks = _powers(y.max()) if logarithmic else _round_numbers(y.min(), y.max())
    scale = np.log1p if logarithmic else np.asarray
    top, right, bottom, left = CHART_MARGINS
    ends = (min(y.min(), *marks), max(y.max(), *marks))
    low, high = scale(np.array(ends))
    across = _line(x.min(), x.max(), left, CHART_WIDTH - right)
    down = _line(low, high, CHART_HEIGHT - bottom, top)
    x, y = across(x), down(scale(y))
    first, last = min(numbers), max(numbers)
    whole = [m for m in _round_numbers(first, last) if m % 1 == 0 and first <= m <= last]
    return Chart(
        _path(x, y),
        [Dot(round(float(x[i]), 1), round(float(y[i]), 1), i == marked) for i in dots],
        [Tick(round(float(across(mark)), 1), f"{mark:,.10g}") for mark in whole],
        [Tick(round(float(down(scale(mark))), 1), f"{mark:,.10g}") for mark in marks],
    )


def centroid_map(centroids: np.ndarray, counts: Sequence[int]) -> Map:
    """Places centroids [k, d], k ≥ 2, on the plane that shows most of their variance."""
    points, share = principal_plane(centroids)
    margin = MAP_RADII[1] + 20  # a circle and its number
    span = np.ptp(points, axis=0)
    low, high = MAP_HEIGHTS
    # One scale for both axes, so that distances on the map are those on the plane.
    scale = (MAP_WIDTH - 2 * margin) / (span[0] or 1)
    scale = min(scale, (high - 2 * margin) / (span[1] or 1))
    height = max(low, scale * span[1] + 2 * margin)
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    places = (points - centre) * [scale, -scale] + [MAP_WIDTH / 2, height / 2]
    radii = bubble_radii(counts)
    bubbles = [
        Bubble(*(round(float(v), 1) for v in (x, y, radius)))
        for (x, y), radius in zip(places, radii, strict=True)
    ]
    return Map(bubbles, round(float(height), 1), share)


def principal_plane(centroids: np.ndarray) -> tuple[np.ndarray, float]:
    """Coordinates float64 [k, 2] along the two axes of largest variance, and its share there.

    The sign of an axis is a convention: the centroid farthest out along it is on the positive side.
    """
    centred = np.asarray(centroids, np.float64) - np.mean(centroids, axis=0, dtype=np.float64)
    axes = main_axes(centred)
    points = np.zeros((len(centred), 2))
    points[:, : len(axes)] = centred @ axes.T
    farthest = points[np.abs(points).argmax(axis=0), [0, 1]]
    points *= np.where(farthest < 0, -1.0, 1.0)
    return points, float(np.square(points).sum() / (np.square(centred).sum() or 1))


def bubble_radii(counts: Sequence[int]) -> np.ndarray:
    """Returns radii of circles with areas proportional to `counts`, smaller if there are many."""
    smallest, largest = MAP_RADII
    # So that all circles together cover about the same area, however many there are.
    largest = min(largest, 150 / math.sqrt(len(counts)))
    shares = np.asarray(counts, float) / max(counts)
    return np.maximum(np.sqrt(shares) * largest, min(smallest, largest / 4))


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _line(
    low: float, high: float, start: float, end: float
) -> Callable[[np.ndarray | float], np.ndarray]:
    """Makes the linear function from low … high to start … end; the middle if low equals high."""
    if low == high:
        return lambda value: np.zeros_like(value, float) + (start + end) / 2
    return lambda value: start + (np.asarray(value) - low) * (end - start) / (high - low)


def _round_numbers(low: float, high: float) -> list[float]:
    """Two to six multiples of 1, 2 or 5 times a power of ten, from below `low` to above `high`."""
    if low == high:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next((m for m in (1, 2, 5) if (high - low) / (step * m) <= 4), 10)
    return [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _powers(high: float) -> list[float]:
    """0, 1 and the powers of ten up to `high`, every other one where they are many."""
    exponents = range(0, max(1, math.ceil(math.log10(max(high, 1)))) + 1)
    return [0, *(10**e for e in exponents[:: 1 if len(exponents) < 7 else 2])]

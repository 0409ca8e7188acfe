"""A fit of an array in memory, without shards, files and scikit-learn.

The images, the loop and the final assignment are those of the command line: so are the bits.
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from job.config import FitConfig
from job.estimator.arrays import is_too_small, origin_of
from job.kmeans import chosen_algorithm
from pipeline.errors import UserError
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards import plan
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.pixel_scale import units_of
from pipeline.terminal import Progress

if TYPE_CHECKING:
    from job.images.protocol import Images
    from job.kmeans.loop import Fitted, IterationRecord, State

# Up to so much work, Lloyd's algorithm is done before the graphs of a faster one are made.
LITTLE_WORK = 20_000_000  # images × features × clusters


class Outcome(NamedTuple):
    """What a fit of an array [n, d] finds, in the units of the array.

    Attributes:
      centers: [k, d]; float32 if the array is, else float64.
      labels: the nearest center of each row, int32 [n].
      inertia: Σ squared distances of the rows to their centers.
      iterations: how many the kept restart took.
      converged: whether it ended by itself.
      history: of each of its iterations what history.jsonl has.
    """

    centers: np.ndarray
    labels: np.ndarray
    inertia: float
    iterations: int
    converged: bool
    history: list[dict[str, Any]]


def fit_array(
    pixels: np.ndarray,
    config: FitConfig,
    initial: np.ndarray | None,
    weights: np.ndarray | None,
    quiet: bool,
) -> Outcome:
    """Clusters the rows of an array.

    Args:
      pixels: uint8, float32 or float64 [n, d], in C's order.
      config: of the fit; folders are not used, and `tol` is in the units of the array.
      initial: centers [k, d] to begin with; None: those that `config.init` chooses.
      weights: of the rows, float64 [n], ≥ 0, not all 0; None: all 1.
      quiet: whether to show no progress.

    Raises:
      UserError: an option or the array is at fault.
    """
    # Not at the top: whoever only applies a fitted estimator need not load TensorFlow.
    from job.estimator.weights import images_of
    from job.images.array import graphs_of
    from job.kmeans import loop

    origin, scale = origin_of(pixels, weights), scale_of(pixels)
    if is_too_small(pixels):
        raise UserError(
            "X: no value is larger than 1e-31, where float32 ends; multiply the array by a power "
            "of ten"
        )
    config = dataclasses.replace(
        config, tol=config.tol / scale**2, algorithm=_algorithm(config, pixels)
    )
    images = images_of(pixels, weights, graphs_of(config.replicas, config.k, pixels), origin)
    state = None if initial is None else _begun(initial, images, scale, origin)
    with Progress("fit", None, "iterations", quiet) as progress:
        recording = Recording(progress)
        fitted, _ = loop.run_restarts(images, config, recording, state=state)
    centers = _centers(fitted, pixels, origin)
    labels, inertia = assign(pixels, centers, scale, weights)
    history = recording.of_restart(fitted.restart, scale)
    return Outcome(centers, labels, inertia, fitted.iterations, fitted.converged, history)


def scale_of(pixels: np.ndarray) -> float:
    """Returns how many units of the array a published unit of the command line is."""
    return units_of(pixels.dtype, pixels.shape[1]).scale


def assign(
    pixels: np.ndarray, centers: np.ndarray, scale: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Finds the nearest centers of an array's rows.

    Args:
      scale: `scale_of` the array that the centers were found in.
      weights: of the rows, float64 [n]; None: all 1.

    Returns:
      Their numbers, int32 [n]; the sum of the squared distances, in the units of the array.
    """
    from job.estimator.weights import Inertia

    labels = np.empty(len(pixels), np.int32)
    inertia = Inertia(centers, scale if pixels.dtype == np.uint8 else 1.0, weights)
    for start, found in assigned(pixels, centers, scale):
        rows = slice(start, start + len(found.clusters))
        labels[rows] = found.clusters
        inertia.add(found, rows)
    return labels, inertia.value()


def assigned(
    pixels: np.ndarray, centers: np.ndarray, scale: float
) -> Iterator[tuple[int, Assigned]]:
    """Yields the first row of each block of rows, and what `nearest` finds for the block."""
    find = nearest(pixels, centers, scale)
    for start, stop in plan.spans(0, len(pixels), plan.images_per_block(pixels[0].nbytes)):
        part = pixels[start:stop]
        yield start, find(Block([""] * len(part), None, part))


def nearest(pixels: np.ndarray, centers: np.ndarray, scale: float) -> NearestCentroid:
    """Makes what finds the nearest centers of rows such as `pixels`.

    Its distances are in units of 1 / 255 for bytes, if the centers were found in bytes.
    """
    dtype = "float64"
    if scale != 1 and pixels.dtype == np.uint8:
        # As published: the product with 255 was exact.
        centers, dtype = (centers / scale).astype(np.float32), "uint8"
    return NearestCentroid(Model("", centers, centers.shape[1:], dtype), threads=None)


class Recording:
    """Keeps the records of all iterations, and shows progress."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._records: list[IterationRecord] = []

    def of_restart(self, restart: int, scale: float) -> list[dict[str, Any]]:
        """Returns the records of a restart, in the units of the array."""
        squares = scale**2
        return [
            {
                **record._asdict(),
                "inertia": record.inertia * squares,
                "shift": record.shift * squares,
            }
            for record in self._records
            if record.restart == restart
        ]

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        text = f"restart {restart + 1}, {num_centroids} initial centroids"
        self._progress.update(len(self._records), text)

    def on_iteration(self, record: "IterationRecord") -> None:
        self._records.append(record)
        text = f"inertia {record.inertia:.6g}, {record.changed:,.10g} changed"
        self._progress.update(len(self._records), text)

    def on_state(self, state: "State") -> None: ...


def _algorithm(config: FitConfig, pixels: np.ndarray) -> str:
    """Returns the name of the algorithm for an array: all make the same bits."""
    if config.algorithm == "auto" and pixels.size * config.k <= LITTLE_WORK:
        return "lloyd"
    return chosen_algorithm(config)


def _begun(
    initial: np.ndarray, images: "Images", scale: float, origin: np.ndarray | None
) -> "State":
    """Makes the state of a fit that has its initial centers already."""
    from job.kmeans.init import given_centroids
    from job.kmeans.loop import State

    if images.units.step and not (initial.min() >= 0 and initial.max() <= scale):
        raise UserError(
            f"init: values {initial.min():g} … {initial.max():g}, but those of uint8 rows lie in "
            f"0 … {scale:g}"
        )
    published = (initial if origin is None else initial - origin) / scale
    return State(centroids=given_centroids("init", published, images))


def _centers(fitted: "Fitted", pixels: np.ndarray, origin: np.ndarray | None) -> np.ndarray:
    """Returns the centers in the units of the array."""
    if pixels.dtype == np.float32:
        return fitted.centroids
    wide = fitted.centroids.astype(np.float64) * scale_of(pixels)
    return wide if origin is None else wide + origin

"""Passes of K-means as graphs that tests call with arrays."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from job.images.rows import squared_pixel_norms
from job.kmeans import ALGORITHMS, sums
from job.kmeans.blocks import stored
from job.kmeans.precision import FLOAT32
from job.kmeans.scores import nearest_centroids, scorer_of
from pipeline.shards.pixel_scale import Units, on_grid, units_of

BYTES = units_of(np.dtype("uint8"), 784)
FLOATS = units_of(np.dtype("float32"), 784)
PRUNED = sorted({*ALGORITHMS} - {"lloyd"})


@functools.cache
def graph(function: Callable, dtype: str, *shape: int) -> Callable:
    """`function` as a graph that is traced anew for another `shape` [d, k], not for another n."""
    return tf.function(function, reduce_retracing=True, autograph=False)


def assign(images: np.ndarray, centroids: np.ndarray, rows: np.ndarray | None = None):
    """`nearest_centroids`, of all images or of `rows`: clusters and gaps [n]."""
    units = units_of(images.dtype, images.shape[1])
    scorer = scorer_of(on_grid(centroids, units), units, FLOAT32)
    function = graph(nearest_centroids, images.dtype.name, *centroids.shape)
    found = function(stored(images), squared_pixel_norms(images), scorer, units, rows)
    return [part.numpy() for part in found]


def moved(
    images: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    num_clusters: int,
    units: Units = BYTES,
):
    """`moved_sums` as arrays."""
    shape = (num_clusters, images.shape[1])  # a TensorShape would be traced anew for each call
    function = graph(sums.moved_sums, images.dtype.name, *shape)
    return [part.numpy() for part in function(stored(images), before, after, shape, units)]


def bytes_of(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.integers(0, 256, (n, d), dtype=np.uint8)

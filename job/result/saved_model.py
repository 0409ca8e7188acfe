"""DIR/model: the result as a SavedModel, which assigns images as `fit` did."""

import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import by_block
from job.kmeans.decisions import TENSORFLOW, near_ones
from job.kmeans.scores import exact_scores
from job.result.folder import MODEL
from pipeline import storage
from pipeline.shards.decisions import doubts_of
from pipeline.shards.double_double import TIE, row_sums, squared_distance
from pipeline.shards.pixel_scale import (
    Units,
    middle_of,
    squared_norms,
    to_squared_distances,
    units_of,
)

MARKER = "saved_model.pb"  # written last: no program loads a model without it
# x / 255 in float32, times 255, is at most this far from the pixel x.
PIXEL_ROUNDING = 2.0**-14
# A difference that is a smaller share of what it was taken from may have lost digits of a float32.
CANCELLED = 2.0**-16


def write_model(
    folder: str, centroids: np.ndarray, image_shape: tuple[int, ...], dtype: str
) -> None:
    """Publishes the model of centroids float32 [k, d] in the result folder `folder`."""
    module, signatures = build_model(centroids, image_shape, dtype)
    with tempfile.TemporaryDirectory() as local:
        tf.saved_model.save(module, local, signatures)
        for name in sorted(storage.walk(local), key=lambda name: name == MARKER):
            data = storage.read_bytes(storage.join(local, name))
            storage.write_bytes(storage.join(folder, MODEL, name), data)


def build_model(
    centroids: np.ndarray, image_shape: tuple[int, ...], dtype: str
) -> tuple[tf.Module, dict[str, Callable]]:
    """Makes a module that holds the centroids float32 [k, d], and its signatures.

    The signatures are functions that assign images. They take `images` [batch, *image_shape] and
    return `cluster` int32 [batch], `distance` float32 [batch], and `distances` float32 [batch, k],
    in published units. For uint8 images the answer does not depend on the batch they are in.

      serving_default: takes images of `dtype`.
      scaled: takes float32 in 0 … 1, if `dtype` is uint8. A value that is a pixel / 255, apart from
        rounding, counts as that pixel; other values count as they are.

    Images of another shape or dtype raise an error that names both.
    """
    module = tf.Module()
    module.centroids = tf.Variable(centroids, trainable=False)
    shape = [None, *image_shape]
    answer = _answers(module, units_of(np.dtype(dtype), centroids.shape[1]))
    # A function of its own, which all signatures call: tracing it takes most of the time.
    spec = tf.TensorSpec([None, centroids.shape[1]], "float64")
    traced = tf.function(answer, input_signature=[spec], autograph=False)

    def signature(convert: Callable[[tf.Tensor], tf.Tensor], dtype: str) -> Callable:
        def answered(images: tf.Tensor) -> dict[str, tf.Tensor]:
            # Programs that load a SavedModel do not check the shape of a signature.
            checked = tf.ensure_shape(images, shape, "images")
            return traced(tf.reshape(convert(checked), [-1, centroids.shape[1]]))

        spec = tf.TensorSpec(shape, dtype, "images")
        return tf.function(answered, input_signature=[spec], autograph=False)

    signatures = {"serving_default": signature(lambda images: tf.cast(images, tf.float64), dtype)}
    if dtype == "uint8":
        signatures["scaled"] = signature(to_pixels, "float32")
    return module, signatures


def _answers(module: tf.Module, units: Units) -> Callable:
    """Makes the function that assigns images to `module.centroids`; adds variables to the module.

    Returns:
      flat images float64 [batch, d] → the outputs of a signature.
    """
    wide = module.centroids.numpy().astype(np.float64)
    middle = middle_of(wide, units)
    module.middle = tf.Variable(middle, trainable=False)
    squares = squared_norms(wide - middle, units)
    module.squares = tf.Variable(squares, trainable=False)
    module.doubts = tf.Variable(doubts_of(squares, units.scale, wide.shape[1]), trainable=False)

    def answer(rows: tf.Tensor) -> dict[str, tf.Tensor]:
        exact = tf.cast(module.centroids, tf.float64)
        around = rows - module.middle
        bias = units.scale * module.squares
        scores = exact_scores(around, exact - module.middle, bias)  # [batch, k]
        norms = tf.reduce_sum(tf.square(around), axis=1)
        near = near_ones(scores, tf.sqrt(norms), module.doubts)
        clusters = _nearest_exactly(rows, units.scale * exact, near)
        squared = to_squared_distances(scores, norms[:, None], units, tf.where)
        if not units.step:
            squared = _with_near_ones_direct(squared, norms, rows, exact, module.squares)
        distances = tf.cast(tf.sqrt(squared), tf.float32)
        return {
            "cluster": tf.cast(clusters, tf.int32),
            "distance": tf.gather(distances, clusters, batch_dims=1),
            "distances": distances,
        }

    return answer


def _nearest_exactly(images: tf.Tensor, centroids: tf.Tensor, near: tf.Tensor) -> tf.Tensor:
    """Does what `nearest_of` does, with operations that a SavedModel can hold; int64 [B]."""
    numbers = tf.range(tf.cast(tf.shape(near)[1], tf.int64))
    only = tf.reduce_min(tf.where(near, numbers, tf.int64.max), axis=1)
    several = tf.math.count_nonzero(near, axis=1) > 1
    pairs = tf.where(near & several[:, None])
    image, cluster, count = pairs[:, 0], pairs[:, 1], tf.shape(near)[0]

    def distances(start, stop):
        rows = tf.gather(images, image[start:stop])
        others = tf.gather(centroids, cluster[start:stop])
        return [part[:, 0] for part in squared_distance(rows, others, TENSORFLOW)]

    high, low = by_block(distances, tf.size(image), images.shape[1], [tf.float64, tf.float64])
    least = tf.gather(tf.math.unsorted_segment_min(high, image, count), image)
    above = (high - least) + low
    lowest = tf.gather(tf.math.unsorted_segment_min(above, image, count), image)
    candidates = tf.where(above - lowest <= TIE * least, cluster, tf.int64.max)
    return tf.where(several, tf.math.unsorted_segment_min(candidates, image, count), only)


def _with_near_ones_direct(
    squared: tf.Tensor, norms: tf.Tensor, rows: tf.Tensor, centroids: tf.Tensor, squares: tf.Tensor
) -> tf.Tensor:
    """Computes those of squared distances [B, k] anew that are small differences of large numbers.

    Args:
      norms: squared norms [B], squares: squared norms [k], of which `squared` were made.
      rows: float64 [B, d]; centroids: float64 [k, d].
    """
    pairs = tf.where(squared <= CANCELLED * (norms[:, None] + squares))

    def direct(start, stop):
        image, cluster = pairs[start:stop, 0], pairs[start:stop, 1]
        return [
            row_sums(tf.square(tf.gather(rows, image) - tf.gather(centroids, cluster)), TENSORFLOW)
        ]

    (found,) = by_block(direct, tf.size(pairs[:, 0]), rows.shape[1], [tf.float64])
    return tf.tensor_scatter_nd_update(squared, pairs, found)


def to_pixels(images: tf.Tensor) -> tf.Tensor:
    """Converts images float32 in 0 … 1 to pixels, float64.

    Raises:
      tf.errors.InvalidArgumentError: a value is not within 0 … 1.
    """
    within = tf.reduce_all((images >= 0) & (images <= 1))
    check = tf.debugging.Assert(
        within, ["images are not within 0 … 1; give pixels as uint8 to serving_default"]
    )
    with tf.control_dependencies([check]):
        pixels = 255.0 * tf.cast(images, tf.float64)
    whole = tf.round(pixels)
    return tf.where(tf.abs(pixels - whole) <= PIXEL_ROUNDING, whole, pixels)

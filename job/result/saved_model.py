"""DIR/model: the result as a SavedModel, which assigns images as `fit` did."""

import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from job.kmeans.scores import exact_scores, first_lowest
from job.result.folder import MODEL
from pipeline import storage
from pipeline.shards.pixel_scale import squared_norms, to_squared_distances, units_of

MARKER = "saved_model.pb"  # written last: no program loads a model without it
# x / 255 in float32, times 255, is at most this far from the pixel x.
PIXEL_ROUNDING = 2.0**-14


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
    num_features = centroids.shape[1]
    units = units_of(np.dtype(dtype), num_features)
    module = tf.Module()
    module.centroids = tf.Variable(centroids, trainable=False)
    bias = units.scale * squared_norms(centroids.astype(np.float64), units)
    module.bias = tf.Variable(bias, trainable=False)

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # Programs that load a SavedModel do not check the shape of a signature.
        checked = tf.ensure_shape(images, [None, *image_shape], "images")
        rows = tf.reshape(tf.cast(checked, tf.float64), [-1, num_features])
        # −2c is exact: these are the weights that `fit` used.
        weights = -2.0 * tf.cast(module.centroids, tf.float64)
        scores = exact_scores(rows, weights, module.bias)  # [batch, k]
        clusters = first_lowest(scores)
        norm = tf.reduce_sum(tf.square(rows), axis=1, keepdims=True)
        squared = to_squared_distances(scores, norm, units, tf.where)
        distances = tf.cast(tf.sqrt(squared), tf.float32)
        return {
            "cluster": tf.cast(clusters, tf.int32),
            "distance": tf.gather(distances, clusters, batch_dims=1),
            "distances": distances,
        }

    def signature(function, dtype: str):
        spec = tf.TensorSpec([None, *image_shape], dtype, "images")
        return tf.function(function, input_signature=[spec], autograph=False)

    signatures = {"serving_default": signature(answer, dtype)}
    if dtype == "uint8":
        signatures["scaled"] = signature(lambda images: answer(to_pixels(images)), "float32")
    return module, signatures


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

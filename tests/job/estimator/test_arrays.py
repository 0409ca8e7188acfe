"""What people have in memory becomes the array that a fit takes."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tensorflow as tf

from job.estimator.arrays import as_array, as_pixels, is_too_small, origin_of
from kmeans_job import KMeans

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 4), dtype=np.uint8)
NAMES = list("abcd")


def only(other: object, *names: str) -> object:
    """An object that has only some methods of another."""
    methods = {name: staticmethod(getattr(other, name)) for name in names}
    return type("Only", (), methods)()


TABLE = pa.table(dict(zip(NAMES, PIXELS.T, strict=True)))
FRAME = pd.DataFrame(PIXELS, columns=NAMES)


SOURCES = {
    "a list": lambda: PIXELS.tolist(),
    "Fortran's order": lambda: np.asfortranarray(PIXELS),
    "pandas": lambda: FRAME,
    "polars": lambda: pl.DataFrame(PIXELS, schema=NAMES),
    "Arrow": lambda: TABLE,
    "TensorFlow": lambda: tf.constant(PIXELS),
    "DLPack": lambda: only(PIXELS, "__dlpack__", "__dlpack_device__"),
    "__array__": lambda: only(PIXELS, "__array__"),
    "Arrow's stream": lambda: only(TABLE, "__arrow_c_stream__"),
    "interchange": lambda: only(FRAME, "__dataframe__"),
}
NAMED = ("pandas", "polars", "Arrow", "Arrow's stream", "interchange")


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_numbers_from_anywhere(cpus, source):
    expected = KMeans(3).fit(PIXELS)
    kmeans = KMeans(3).fit(values := SOURCES[source]())
    assert kmeans.inertia_ == expected.inertia_
    np.testing.assert_array_equal(kmeans.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(kmeans.predict(values), expected.labels_)
    names = getattr(kmeans, "feature_names_in_", None)
    assert names is None if source not in NAMED else names.tolist() == NAMES


def test_memory_is_shared_where_it_can_be():
    assert as_array(PIXELS) is PIXELS
    assert as_pixels(PIXELS) is PIXELS
    for values in (only(PIXELS, "__dlpack__", "__dlpack_device__"), PIXELS.reshape(30, 2, 2)):
        assert np.shares_memory(as_array(values), PIXELS)
    tensor = tf.constant(PIXELS)
    assert np.shares_memory(as_array(tensor), np.from_dlpack(tensor))


def test_memory_that_cannot_be_shared_is_left_to_its_library():
    class OnAGpu:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **_):
            raise BufferError("on a GPU")

    assert isinstance(as_array(OnAGpu()), OnAGpu)


@pytest.mark.parametrize("shape", [(30, 2, 2), (30, 2, 1, 2)])
def test_images_become_rows(shape):
    for values in (PIXELS.reshape(shape), tf.constant(PIXELS.reshape(shape))):
        np.testing.assert_array_equal(as_array(values), PIXELS)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[0, 255]], "uint8"),
        (np.array([[True, False]]), "uint8"),
        ([[0, 256]], "float64"),
        ([[-1, 255]], "float64"),
        (np.array([[1.5]], np.float16), "float32"),
        (np.array([[1.5]], np.float32), "float32"),
        (np.array([[1.5]], np.float64), "float64"),
        (np.array([[1.5]], np.longdouble), "float64"),
    ],
)
def test_dtypes(values, dtype):
    array = np.array(values)
    assert as_pixels(array).dtype == dtype
    np.testing.assert_array_equal(as_pixels(array), array)


def test_only_columns_that_rounding_would_spoil_are_moved():
    near = np.random.default_rng(0).normal(size=1000)
    columns = [near, 1e9 + near, 1e9 + np.round(near) * 128, np.full(1000, 0.25), near * 1e30]
    origin = origin_of(np.stack(columns, axis=1))
    assert (origin != 0).tolist() == [False, True, False, False, False]
    assert abs(origin[1] - 1e9) < 1
    assert origin_of(np.stack([near, near], axis=1)) is None
    assert origin_of(np.stack(columns, axis=1).astype(np.float32)) is None


def test_too_small_for_float32():
    assert is_too_small(np.array([[0, -1e-32]]))
    assert not is_too_small(np.array([[1e-30, -1e-32]]))
    assert not is_too_small(np.zeros((2, 2)))
    assert not is_too_small(np.zeros((2, 2), np.uint8))

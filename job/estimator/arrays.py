"""What a person has in memory, as the array that a fit takes: [n, d] of uint8 or floats."""

import math
from typing import Any

import numpy as np

from pipeline.shards.pixel_scale import FAR

MAX_PIXEL = 255
# So many rows tell where the columns of a float64 array lie.
SAMPLE_ROWS = 255
# Float32 arithmetic cannot tell numbers apart that are all smaller.
LEAST_LARGEST = 1e-31


def as_array(values: Any) -> Any:
    """Converts what shares its memory by a protocol that NumPy or scikit-learn does not ask for.

    Those are DLPack, Arrow's streams of columns and the interchange of data frames. Images
    [n, h, w] or [n, h, w, c] become rows [n, d]. All else is returned as it is.
    """
    if not isinstance(values, np.ndarray):
        values = _shared(values)
    if image_shape_of(values) is not None:
        array = np.asarray(values)
        return array.reshape(len(array), math.prod(array.shape[1:]))
    return values


def image_shape_of(values: Any) -> tuple[int, ...] | None:
    """Returns the shape of the images [n, h, w] or [n, h, w, c] that `values` are; else None."""
    return tuple(values.shape[1:]) if getattr(values, "ndim", 2) in (3, 4) else None


def _shared(values: Any) -> Any:
    if hasattr(values, "__dlpack__"):
        try:
            return np.from_dlpack(values)
        except (BufferError, RuntimeError, TypeError):
            return values  # on a GPU, for example: the library's own message says what to do
    if hasattr(values, "__array__"):
        return values
    if hasattr(values, "__arrow_c_stream__"):
        import pyarrow as pa

        return pa.table(values)
    if hasattr(values, "__dataframe__"):
        from pyarrow.interchange import from_dataframe

        return from_dataframe(values)
    return values


def as_pixels(array: np.ndarray) -> np.ndarray:
    """Converts numbers [n, d] to what a fit takes: uint8, float32 or float64.

    Integers become uint8 if all of them fit, as they do in shards.
    """
    if array.dtype in (np.uint8, np.float32, np.float64):
        return array
    if array.dtype == bool or (array.dtype.kind in "iu" and _fits_bytes(array)):
        return array.astype(np.uint8)
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)


def _fits_bytes(array: np.ndarray) -> bool:
    return bool(array.min() >= 0 and array.max() <= MAX_PIXEL)


def origin_of(array: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | None:
    """Finds what to subtract from float64 [n, d] so that rounding to float32 loses little.

    A column that lies far from 0, such as a time in seconds, would lose what tells its rows apart.

    Args:
      weights: of the rows, float64 [n]; None: all 1.

    Returns:
      float64 [d]: the middle of such columns, 0 for others; None if there is no such column.
    """
    if array.dtype != np.float64:
        return None
    ends = np.arange(1, len(array) + 1) if weights is None else np.cumsum(weights)
    places = np.arange(0, ends[-1], np.ceil(ends[-1] / SAMPLE_ROWS))
    sample = array[np.searchsorted(ends, places, side="right")]
    ordered = np.sort(sample, axis=0)
    quarter, middle, rest = (ordered[len(ordered) * part // 4] for part in (1, 2, 3))
    is_far = np.abs(middle) > FAR * (rest - quarter)
    with np.errstate(over="ignore"):
        is_rounded = (sample.astype(np.float32) != sample).any(axis=0)
    origin = np.where(is_far & is_rounded, middle, 0.0)
    return origin if origin.any() else None


def is_too_small(array: np.ndarray) -> bool:
    """Tells whether float32 would take all numbers of a float64 array for 0, or nearly so."""
    return array.dtype == np.float64 and 0 < max(array.max(), -array.min()) < LEAST_LARGEST

"""Arrays that TensorFlow uses where they lie, without a copy."""

from typing import Any

import numpy as np
import tensorflow as tf

LARGE_BYTES = 16 << 20  # of an array that is not to be copied


def uncopied(value: Any) -> Any:
    """Makes tensors of large arrays, if possible of their own memory; leaves all else."""
    is_large = isinstance(value, np.ndarray) and value.nbytes >= LARGE_BYTES
    return tensor_of(value) if is_large else value


def tensor_of(array: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Makes a tensor on the current device, of the array's own memory where that is possible."""
    if not isinstance(array, np.ndarray):
        return tf.identity(array)
    if is_usable(array):
        # tf.identity moves it to the replica's device; between CPU devices it is the same memory.
        return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))
    return tf.convert_to_tensor(array)


def is_usable(array: np.ndarray) -> bool:
    """Tells whether `place` can use the memory of an array without a copy."""
    aligned = array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % 64 == 0
    return bool(aligned and array.size)


def aligned_empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Makes an uninitialised array that `place` can use without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)

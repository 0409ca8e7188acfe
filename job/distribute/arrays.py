"""Arrays that TensorFlow uses where they lie, without a copy."""

import ctypes
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import is_usable

LARGE_BYTES = 24 << 20  # of an array that is not to be copied


def is_large(value: Any) -> bool:
    """Tells whether a copy of an array would take much memory."""
    return isinstance(value, np.ndarray) and value.nbytes >= LARGE_BYTES


def uncopied(value: Any) -> Any:
    """Makes tensors of large arrays, if possible of their own memory; leaves all else."""
    return tensor_of(value) if is_large(value) else value


def give_back_memory() -> None:
    """Gives the system the holes that freed memory left between what is still in use.

    Passes over many images leave hundreds of megabytes of them, too small for what follows.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another libc may have none
        if trim is not None:
            trim(0)


def tensor_of(array: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Makes a tensor on the current device, of the array's own memory where that is possible."""
    if not isinstance(array, np.ndarray):
        return tf.identity(array)
    if is_usable(array):
        # tf.identity moves it to the replica's device; between CPU devices it is the same memory.
        return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))
    return tf.convert_to_tensor(array)

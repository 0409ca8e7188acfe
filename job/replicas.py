"""The replicas of a job: the only module that knows tf.distribute.

A replica is a device with its own share of the images. What every replica needs to agree on is
summed by one all-reduce; everything else stays where it is.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.errors import UserError

KEPT_BYTES = 64 << 20  # larger pieces of memory go back when they are freed
# A step: (the replica's images, its state, what all replicas share) → (its new state, partial
# sums: float64 tensors that are added over all replicas).
Step = Callable[..., tuple[Any, list[tf.Tensor]]]


class Replicas:
    """Devices under one tf.distribute strategy, and the one collective they use."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.count = int(strategy.num_replicas_in_sync)

    def place(self, values: Sequence[Any]) -> Any:
        """Gives each replica its own of `values`: numpy arrays, or structures of them.

        On CPU devices an array's memory is used as it is, not copied.
        """

        def own(context: tf.distribute.ReplicaContext) -> Any:
            value = values[context.replica_id_in_sync_group]
            return tf.nest.map_structure(_tensor, value)

        return self._strategy.experimental_distribute_values_from_function(own)

    def parts(self, value: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The tensor that `value` is on each replica."""
        return self._strategy.experimental_local_results(value)

    def compile(self, step: Step) -> Callable[[Any, Any, Any], tuple[Any, list[np.ndarray]]]:
        """`step` as one graph over all replicas: (images, state, shared) → (state, totals)."""

        def on_replica(images, state, shared):
            state, partial = step(images, state, shared)
            if not partial:
                return state, []
            # The one all-reduce of an iteration: everything the replicas must agree on.
            context = tf.distribute.get_replica_context()
            return state, context.all_reduce(tf.distribute.ReduceOp.SUM, partial)

        @tf.function(reduce_retracing=True, autograph=False)
        def graph(images, state, shared):
            return self._strategy.run(on_replica, (images, state, shared))

        def run(images, state, shared):
            state, totals = graph(images, state, shared)
            return state, [self.parts(total)[0].numpy() for total in totals]

        return run


def local_replicas(count: int | None = None) -> Replicas:
    """Replicas of this machine: its GPUs, or else `count` logical CPU devices (default 1).

    Raises:
      UserError: more replicas than there are GPUs.
    """
    _keep_freed_memory()
    # Their 10 bits of mantissa are not those the margins for near-ties are made for.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count is not None and count > len(gpus):
            raise UserError(f"--replicas {count}: this machine has {len(gpus)} GPUs")
        names = [f"GPU:{index}" for index in range(count or len(gpus))]
        return Replicas(tf.distribute.MirroredStrategy(names))
    count = count or 1
    if not _cpus(count):
        raise RuntimeError(f"{count} replicas, but TensorFlow has started with fewer CPU devices")
    names = [f"CPU:{index}" for index in range(count)]
    reduction = tf.distribute.ReductionToOneDevice()
    return Replicas(tf.distribute.MirroredStrategy(names, cross_device_ops=reduction))


def _cpus(count: int) -> bool:
    """Whether there are `count` logical CPU devices, made if TensorFlow has not started yet."""
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    configured = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(configured) < count:
        try:
            devices = [tf.config.LogicalDeviceConfiguration()] * count
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError:
            return False
    return True


def _keep_freed_memory() -> None:
    """Tells glibc to keep the megabytes that each block frees, instead of faulting them in anew.

    Casting a block to float32 is otherwise spent half in page faults.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
                mallopt(option, KEPT_BYTES)


def _tensor(array: np.ndarray) -> tf.Tensor:
    aligned = array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % 64 == 0
    if aligned and array.size:
        # tf.identity moves it to the replica's device; between CPU devices it is the same memory.
        return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))
    return tf.convert_to_tensor(array)


def aligned_empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An uninitialised array that `place` can use without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)

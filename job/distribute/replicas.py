"""The replicas of a job: the only module that knows tf.distribute.

A replica is a device with its own share of the images, a worker a process with some replicas.
What all need to agree on is summed: first over the replicas of a worker, then over workers.
Everything else stays where it is.

The replicas of a worker are a MirroredStrategy, so that there may be several on CPUs too; the
workers are a MultiWorkerMirroredStrategy of one host device each, whose collectives need the same
number of calls from everybody and nothing else.
"""

import ctypes
import gc
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from job.distribute import workers
from job.distribute.preemption import InterruptedFit
from job.distribute.workers import Cluster
from job.kmeans.graphs import traced
from job.kmeans.precision import FLOAT32, TF32, Precision
from pipeline.errors import UserError

KEPT_BYTES = 64 << 20  # larger pieces of memory go back when they are freed
# A step: (the replica's images, its state, what all replicas share) → (its new state, partial
# sums: float64 tensors that are added over all replicas).
Step = Callable[..., tuple[Any, list[tf.Tensor]]]


NO_PROXY = "no_grpc_proxy"  # hosts that gRPC reaches without one


class Replicas:
    """The devices of this worker, and sums over all workers.

    Attributes:
      count: replicas of this worker.
      num_workers, worker: how many there are, the number of this one.
      precision: of float32 products on the devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        cluster: Cluster | None = None,
        across: tf.distribute.Strategy | None = None,
        precision: Precision = FLOAT32,
    ):
        """Takes the strategy of this worker's devices and, of a cluster, that of its workers."""
        self._strategy, self._cluster, self.precision = strategy, cluster, precision
        self.count = int(strategy.num_replicas_in_sync)
        self.num_workers = cluster.size if cluster else 1
        self.worker = cluster.number if cluster else 0
        self._across = _all_reduce(across) if across else None
        self._asked = self._agreed = False

    def name(self, worker: int) -> str:
        """What messages call a worker."""
        return self._cluster.name(worker) if self._cluster else f"worker {worker}"

    def ask_to_end(self) -> None:
        """Asks all workers to end; they know it after the next sum."""
        self._asked = True

    def end_if_asked(self, where: str, together: bool = False) -> None:
        """Raises InterruptedFit if this worker was asked to end, or `together`, if any was."""
        if self._agreed if together and self._across else self._asked:
            raise InterruptedFit(where)

    def sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`arrays`, all float64 or all int64, summed over workers.

        Raises:
          JobError: a worker is gone.
        """
        if self._across is None or self._cluster is None:
            return list(arrays)
        dtype = arrays[0].dtype
        packed = np.concatenate([*(a.ravel() for a in arrays), np.array([self._asked], dtype)])
        try:
            total = self._across(packed)
        except tf.errors.OpError as error:
            raise workers.lost(self._cluster, str(error)) from error
        self._agreed = total[-1] > 0
        cuts = np.cumsum([a.size for a in arrays])
        parts = np.split(total, cuts)
        return [part.reshape(a.shape) for part, a in zip(parts, arrays, strict=False)]

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The int64 arrays [...] of all workers, of one shape, as [num_workers, ...]."""
        slots = np.zeros((self.num_workers, *array.shape), np.int64)
        slots[self.worker] = array
        return self.sum([slots])[0]

    def share(self, data: bytes) -> bytes:
        """The bytes that worker 0 has."""
        if self._across is None:
            return data
        mine = self.worker == 0
        (size,) = self.gather(np.array(len(data)))[:1]
        words = np.zeros(-(-int(size) // 8), np.int64)
        if mine:
            words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        return self.sum([words])[0].tobytes()[: int(size)]

    def place(self, values: Sequence[Any]) -> Any:
        """Gives each replica its own of `values`: numpy arrays, or structures of them.

        On CPU devices an array's memory is used as it is, not copied.
        """

        def own(context: tf.distribute.ReplicaContext) -> Any:
            value = values[context.replica_id_in_sync_group]
            return tf.nest.map_structure(_tensor, value)

        placed = self._strategy.experimental_distribute_values_from_function(own)
        if self.count > 1:
            return placed
        # What a pass returns for one replica has the type of its tensors: so no graph is traced
        # twice.
        return tf.nest.map_structure(lambda value: self.parts(value)[0], placed)

    def parts(self, value: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The tensor that `value` is on each replica."""
        return self._strategy.experimental_local_results(value)

    def compile(self, step: Step) -> Callable[[Any, Any, Any], tuple[Any, list[np.ndarray]]]:
        """`step` as one graph over all replicas: (images, state, shared) → (state, totals).

        Where it returns several sums, their shapes are known when it is traced.
        """

        shapes: list[tuple[int, ...]] = []  # of several sums, known once the graph is traced

        def on_replica(images, state, shared):
            state, partial = step(images, state, shared)
            if not partial:
                return state, None
            # The one all-reduce of an iteration: everything the replicas must agree on.
            packed, *more = partial
            if more:
                shapes[:] = [tuple(part.shape) for part in partial]
                packed = tf.concat([tf.reshape(part, [-1]) for part in partial], axis=0)
            context = tf.distribute.get_replica_context()
            return state, context.all_reduce(tf.distribute.ReduceOp.SUM, packed)

        @tf.function(reduce_retracing=True, autograph=False)
        def graph(images, state, shared):
            return self._strategy.run(on_replica, (images, state, shared))

        call = traced(graph)

        def run(images, state, shared):
            state, packed = call(images, state, shared)
            if packed is None:
                return state, []
            total = self.parts(packed)[0].numpy()
            if not shapes:
                return state, self.sum([total])
            parts = np.split(total, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
            totals = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
            return state, self.sum(totals)

        return run

    def compile_chunk(self, step: Step) -> Callable[[Any, Any, Any], tuple[list, list]]:
        """`step` on a chunk of each replica's images, without any sum.

        Returns:
          (images, state, shared) → for each replica its new state; for each its partial sums.
        """

        @tf.function(reduce_retracing=True)
        def graph(images, state, shared):
            return self._strategy.run(step, (images, state, shared))

        call = traced(graph)

        def run(images, state, shared):
            outcome = call(images, state, shared)
            parts = [self.parts(leaf) for leaf in tf.nest.flatten(outcome)]
            replicas = [
                tf.nest.pack_sequence_as(outcome, [part[r].numpy() for part in parts])
                for r in range(self.count)
            ]
            return [state for state, _ in replicas], [partial for _, partial in replicas]

        return run


def _all_reduce(across: tf.distribute.Strategy) -> Callable[[np.ndarray], np.ndarray]:
    """(array of this worker) → sum over workers."""

    def on_worker(value):
        # tf.identity gives it the device that the reduction looks for.
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    def graph(dtype):
        signature = [tf.TensorSpec([None], dtype)]
        return tf.function(lambda value: across.run(on_worker, (value,)), signature)

    # One graph for each type, whatever the length: tracing takes longer than a sum.
    graphs = {dtype: graph(dtype) for dtype in (tf.float64, tf.int64)}

    def run(array):
        total = graphs[tf.as_dtype(array.dtype)](array)
        return across.experimental_local_results(total)[0].numpy()

    return run


def local_replicas(count: int | None = None, cluster: Cluster | None = None) -> Replicas:
    """Replicas of this worker: its GPUs, or else `count` logical CPU devices (default 1).

    Args:
      cluster: the workers, all of which are there; None: this process is alone.

    Raises:
      UserError: more replicas than there are GPUs.
      JobError: another worker is gone.
    """
    _keep_freed_memory()
    if not gc.get_freeze_count():
        # TensorFlow's 340,000 objects stay: looking for garbage among them takes 150 ms.
        gc.freeze()
    # Every pass is a graph of its own, but TensorFlow counts them all as one that is traced anew.
    tf.get_logger().addFilter(lambda record: "retracing" not in record.getMessage())
    # Their 10 bits of mantissa are not those the margins for near-ties are made for.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and count is not None and count > len(gpus):
        raise UserError(f"--replicas {count}: this machine has {len(gpus)} GPUs")
    if not gpus and not _cpus(count or 1):
        raise RuntimeError(f"{count} replicas, but TensorFlow has started with fewer CPU devices")
    # First: its server must start before any operation runs.
    across = _across(cluster) if cluster else None
    if gpus:
        names = [f"GPU:{index}" for index in range(count or len(gpus))]
        return Replicas(tf.distribute.MirroredStrategy(names), cluster, across, _gpu_precision())
    names = [f"CPU:{index}" for index in range(count or 1)]
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)
    return Replicas(strategy, cluster, across)


def _gpu_precision() -> Precision:
    """How float32 products round on the GPUs of this process, as it is set up now."""
    return TF32 if tf.config.experimental.tensor_float_32_execution_enabled() else FLOAT32


def _across(cluster: Cluster) -> tf.distribute.Strategy:
    """The strategy of all workers, with the host of each as its only device."""
    # gRPC would ask an HTTP proxy of the environment for the way to the other workers.
    hosts = {cluster.address(n).rpartition(":")[0].strip("[]") for n in range(cluster.size)}
    direct = os.environ.get(NO_PROXY) or os.environ.get("no_proxy", "")
    os.environ[NO_PROXY] = ",".join(filter(None, [direct, *sorted(hosts)]))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.jobs),
        task_type=cluster.job,
        task_id=cluster.index,
        num_accelerators={},
        rpc_layer="grpc",
    )
    # No timeout: a worker may compute for long; one that is gone or stopped misses its heartbeats.
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except tf.errors.OpError as error:
        raise workers.lost(cluster, str(error)) from error


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


def _tensor(array: np.ndarray | tf.Tensor) -> tf.Tensor:
    if not isinstance(array, np.ndarray):
        return tf.identity(array)
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

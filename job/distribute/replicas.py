"""The replicas of a job and their sums; with `process` the only users of tf.distribute.

A replica is a device that holds its own share of the images. A worker is a process with one or
more replicas. Whatever all must agree on is a sum: first over the replicas of a worker, then over
the workers. Everything else stays where it is.

There are two strategies, one for each of these sums. The replicas of a worker are a
MirroredStrategy, which can also split one CPU into several devices. The workers are a
MultiWorkerMirroredStrategy that sees one host device of each, so that workers may hold different
numbers of images and need only agree on how many sums they make.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from job.distribute import workers
from job.distribute.arrays import give_back_memory, is_large, tensor_of, uncopied
from job.distribute.preemption import InterruptedFit
from job.distribute.workers import WorkerGroup
from job.kmeans.graphs import traced
from job.kmeans.pieces import byte_products
from job.kmeans.precision import FLOAT32, TF32, Precision
from pipeline.errors import UserError

NARROWED_BYTES = 4 << 20  # of an array that is worth a look at how it may travel
# A step: (the replica's images, its state, what all replicas share) → (its new state, partial
# sums: float64 tensors that are added over all replicas).
Step = Callable[..., tuple[Any, list[tf.Tensor]]]


class Replicas:
    """The devices of this worker, and collective operations of all workers.

    Every worker must call the collective operations equally often and in the same order:
    `all_reduce`, `all_gather`, `broadcast` and the functions that `compile` returns.

    Attributes:
      count: replicas of this worker.
      num_workers: how many workers there are.
      worker: the number of this one, from 0.
      precision: of products on the devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        group: WorkerGroup | None = None,
        across: tf.distribute.Strategy | None = None,
        precision: Precision = FLOAT32,
    ):
        """Args:
        strategy: of this worker's devices.
        group, across: where there are several workers, who they are, and their strategy.
        """
        self._strategy, self._group, self.precision = strategy, group, precision
        self.count = int(strategy.num_replicas_in_sync)
        self.num_workers = group.size if group else 1
        self.worker = group.number if group else 0
        self._sum_over_workers = _sum_over_workers(across) if across else None
        self._asked_to_end = False  # this worker
        self._all_asked_to_end = False  # any worker, as all know since the last sum

    def name(self, worker: int) -> str:
        """What messages call a worker."""
        return self._group.name(worker) if self._group else f"worker {worker}"

    def ask_to_end(self) -> None:
        """Asks all workers to end. The others know it after the next sum."""
        self._asked_to_end = True

    def end_if_asked(self, where: str) -> None:
        """Raises InterruptedFit if this worker was asked to end, whatever the others do."""
        if self._asked_to_end:
            raise InterruptedFit(where)

    def end_all_if_asked(self, where: str) -> None:
        """Raises InterruptedFit in all workers if any of them was asked to end.

        That is known since the last sum, so that all end at the same place.
        """
        if self._all_asked_to_end if self._sum_over_workers else self._asked_to_end:
            raise InterruptedFit(where)

    def all_reduce(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sums `arrays`, all float64 or all int64, over the workers.

        Large ones of whole numbers travel as int32, in half the bytes, where no sum can overflow.

        Raises:
          JobError: a worker is gone.
        """
        if self._sum_over_workers is None:
            return list(arrays)
        places = range(len(arrays))
        large = [place for place in places if arrays[place].nbytes >= NARROWED_BYTES]
        narrow = list[int]()
        if large and arrays[0].dtype == np.float64:
            # All workers must agree on it.
            (bounds,) = self._reduce([np.array([_largest(arrays[place]) for place in large])])
            narrow = [place for place, bound in zip(large, bounds, strict=True) if bound < 2**31]
        totals = list(arrays)
        for dtype in (np.dtype(np.int32), arrays[0].dtype):
            own = [place for place in places if (place in narrow) == (dtype == np.int32)]
            if own:
                found = self._reduce([arrays[place].astype(dtype, copy=False) for place in own])
                for place, total in zip(own, found, strict=True):
                    totals[place] = total.astype(arrays[place].dtype, copy=False)
        return totals

    def _reduce(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sums arrays of one dtype over the workers, in one collective operation."""
        assert self._sum_over_workers is not None
        assert self._group is not None
        dtype = arrays[0].dtype
        asked = np.array([self._asked_to_end], dtype)  # travels with every sum
        packed = np.concatenate([*(a.ravel() for a in arrays), asked])
        try:
            total = self._sum_over_workers(packed)
        except tf.errors.OpError as error:
            raise workers.lost(self._group, str(error)) from error
        self._all_asked_to_end = total[-1] > 0
        return _unpack(total[:-1], [a.shape for a in arrays])

    def all_gather(self, array: np.ndarray) -> np.ndarray:
        """Returns the int64 arrays of all workers, which have one shape, as [num_workers, ...]."""
        slots = np.zeros((self.num_workers, *array.shape), np.int64)
        slots[self.worker] = array
        return self.all_reduce([slots])[0]

    def broadcast(self, data: bytes) -> bytes:
        """Returns the `data` of worker 0, in every worker."""
        if self._sum_over_workers is None:
            return data
        size = int(self.all_gather(np.array(len(data)))[0])
        words = np.zeros(-(-size // 8), np.int64)
        if self.worker == 0:
            words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
        return self.all_reduce([words])[0].tobytes()[:size]

    def place(self, values: Sequence[Any]) -> Any:
        """Gives each replica its own of `values`: numpy arrays, or structures of them.

        On CPU devices the memory of an aligned array is used as it is, not copied.
        """

        def own(context: tf.distribute.ReplicaContext) -> Any:
            value = values[context.replica_id_in_sync_group]
            return tf.nest.map_structure(tensor_of, value)

        placed = self._strategy.experimental_distribute_values_from_function(own)
        if self.count > 1:
            return placed
        # A pass over one replica returns plain tensors. Its arguments are plain tensors too, or
        # the graph would be traced once for each of the two types.
        return tf.nest.map_structure(lambda value: self.parts(value)[0], placed)

    def parts(self, value: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the tensor that `value` is on each replica."""
        return self._strategy.experimental_local_results(value)

    def compile(self, step: Step) -> Callable[[Any, Any, Any], tuple[Any, list[np.ndarray]]]:
        """Makes one graph over all replicas of `step`: (images, state, shared) → (state, totals).

        A step that returns several sums must know their shapes when it is traced.
        """
        shapes: list[tuple[int, ...]] = []  # of several sums, known once the graph is traced

        def on_replica(images, state, shared):
            state, partial = step(images, state, shared)
            if not partial:
                return state, None
            if self.count == 1:
                return state, partial
            # The one all-reduce of an iteration: everything the replicas must agree on.
            packed, *more = partial
            if more:
                shapes[:] = [tuple(part.shape) for part in partial]
                packed = tf.concat([tf.reshape(part, [-1]) for part in partial], axis=0)
            context = tf.distribute.get_replica_context()
            return state, context.all_reduce(tf.distribute.ReduceOp.SUM, packed)

        call = self._graph(on_replica)

        def run(images, state, shared):
            many = any(map(is_large, tf.nest.flatten(shared)))
            state, packed = call(images, state, tf.nest.map_structure(uncopied, shared))
            if many:
                give_back_memory()
            if packed is None:
                return state, []
            if self.count == 1:
                return state, self.all_reduce([np.asarray(part) for part in packed])
            total = np.asarray(self.parts(packed)[0])
            return state, self.all_reduce(_unpack(total, shapes) if shapes else [total])

        return run

    def compile_chunk(self, step: Step) -> Callable[[Any, Any, Any], tuple[list, list]]:
        """Makes a graph of `step` on a chunk of each replica's images, without any sum.

        Returns:
          (images, state, shared) → for each replica its new state; for each its partial sums.
        """
        call = self._graph(step)

        def run(images, state, shared):
            outcome = call(images, state, tf.nest.map_structure(uncopied, shared))
            parts = [self.parts(leaf) for leaf in tf.nest.flatten(outcome)]
            replicas = [
                tf.nest.pack_sequence_as(outcome, [np.asarray(part[r]) for part in parts])
                for r in range(self.count)
            ]
            return [state for state, _ in replicas], [partial for _, partial in replicas]

        return run

    def _graph(self, on_replica: Callable) -> Callable:
        """Makes a graph that runs `on_replica` (images, state, shared) on every replica."""

        @tf.function(reduce_retracing=True, autograph=False)
        def graph(images, state, shared):
            return self._strategy.run(on_replica, (images, state, shared))

        return traced(graph)


def _unpack(packed: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Cuts a flat array into arrays of `shapes`."""
    cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = zip(np.split(packed, cuts), shapes, strict=True)
    return [part.reshape(shape) for part, shape in parts]


def _largest(array: np.ndarray) -> float:
    """Returns the largest |x| of an array of whole numbers; infinity if it holds others."""
    largest = 0.0
    for part in np.array_split(array.ravel(), 1 + array.nbytes // NARROWED_BYTES):
        if (part != np.rint(part)).any():
            return math.inf
        largest = max(largest, float(np.abs(part).max()))
    return largest


def _sum_over_workers(across: tf.distribute.Strategy) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function that sums this worker's flat array over all workers."""

    def on_worker(value):
        # The reduction looks for its device, which tf.identity gives it.
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    def graph(dtype):
        signature = [tf.TensorSpec([None], dtype)]
        return tf.function(lambda value: across.run(on_worker, (value,)), signature)

    # One graph for each dtype, whatever the length: tracing takes longer than a sum.
    graphs = {dtype: graph(dtype) for dtype in (tf.float64, tf.int64, tf.int32)}

    def run(array):
        total = graphs[tf.as_dtype(array.dtype)](array)
        return across.experimental_local_results(total)[0].numpy()

    return run


def local_replicas(count: int | None = None, group: WorkerGroup | None = None) -> Replicas:
    """Makes the replicas of this worker.

    Args:
      count: how many; None: all GPUs or, without a GPU, one CPU device. Several replicas without a
        GPU are logical CPU devices, which TensorFlow makes only if it has not run anything yet.
      group: the workers, all of which are listening; None: this process is alone.

    Raises:
      UserError: more replicas than there are GPUs.
      JobError: another worker is gone.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and count is not None and count > len(gpus):
        raise UserError(f"--replicas {count}: this machine has {len(gpus)} GPUs")
    if not gpus and not _make_cpus(count or 1):
        raise UserError(
            f"--replicas {count}: TensorFlow has already started with fewer CPU devices; ask for "
            "them before anything else uses TensorFlow, or fit with fewer"
        )
    # The workers first: a worker's server must start before any operation runs in its process.
    across = _worker_strategy(group) if group else None
    if gpus:
        names = [f"GPU:{index}" for index in range(count or len(gpus))]
        return Replicas(tf.distribute.MirroredStrategy(names), group, across, _gpu_precision())
    names = [f"CPU:{index}" for index in range(count or 1)]
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)
    return Replicas(strategy, group, across, _cpu_precision())


def _gpu_precision() -> Precision:
    """Tells how float32 products round on the GPUs of this process, as it is set up now."""
    return TF32 if tf.config.experimental.tensor_float_32_execution_enabled() else FLOAT32


def _cpu_precision() -> Precision:
    """Tells how products round on CPUs, and which integers this one multiplies."""
    largest, speed = byte_products()
    return FLOAT32._replace(largest_piece=largest, piece_speed=speed)


def _worker_strategy(group: WorkerGroup) -> tf.distribute.Strategy:
    """Makes the strategy of all workers, with the host of each as its only device."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(group.jobs),
        task_type=group.job,
        task_id=group.index,
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
        raise workers.lost(group, str(error)) from error


def _make_cpus(count: int) -> bool:
    """Makes `count` logical CPU devices, unless there are enough; False if it is too late."""
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    configured = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(configured) < count:
        try:
            devices = [tf.config.LogicalDeviceConfiguration()] * count
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError:
            return False
    return True

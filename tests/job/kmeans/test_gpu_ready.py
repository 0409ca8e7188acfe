"""Every pass of a fit runs on a GPU as a whole: TensorFlow's list of kernels says so without one.

An op without a GPU kernel for its types runs on the host in silence, and so does one whose kernel
asks for its arguments in the host's memory, as nearly all of int32 do.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.images.resident import ResidentImages
from job.kmeans import hamerly, kmeans_parallel, loop
from job.kmeans.blocks import images_per_block, take
from job.kmeans.hamerly import screen
from job.kmeans.precision import FLOAT32, TF32, Precision
from job.kmeans.sums import MAX_EXACT_IMAGES
from pipeline.shards.manifest import load_manifest

PASSES = {
    *("lloyd._assign", "loop._own_distances", "kmeans_plus_plus._approach"),
    *("kmeans_parallel._approach", "kmeans_parallel._count_nearest"),
}
FEW_PASSES = {"screen.project", "few._assign_all", "few._assign_in_doubt"}
MANY_PASSES = {"screen.project", "many._guess", "many._assign_in_doubt"}
WITHOUT_A_SCREEN = {"groups._assign"}
ROWS = tf.TensorSpec([None], tf.int64)
# NumPy decides between centroids that float64 cannot tell apart: rarely, for a few images.
TIES = "PyFunc"
# One number for each block of images.
SMALL = {"lengths"}

_kernels = functools.cache(lambda op: kernels.get_registered_kernels_for_op(op).kernel)


def _host_arguments(op: str, types: dict[str, set[int]]) -> set[str] | None:
    """What the kernel that a GPU chooses wants in the host's memory; None: there is no kernel."""
    for device in ("GPU", "DEFAULT"):
        for kernel in _kernels(op):
            if kernel.device_type == device and not kernel.label and _takes(kernel, types):
                return {*kernel.host_memory_arg}
    return None


def _takes(kernel, types: dict[str, set[int]]) -> bool:
    """Whether its constraints are met; those on words, not types, are of no interest."""
    allowed = {c.name: {*c.allowed_values.list.type} for c in kernel.constraint}
    return all(types[name] <= listed for name, listed in allowed.items() if listed)


def _types(op: tf.Operation) -> dict[str, set[int]]:
    """The types in an op's attributes; those of a list together."""
    attributes = op.node_def.attr.items()
    return {name: {*value.list.type} or {value.type} for name, value in attributes}


def _arguments(op: tf.Operation) -> Iterator[tuple[str, tf.Tensor]]:
    """Inputs and outputs, by the names that kernels have for them."""
    for names, tensors in ((op.op_def.input_arg, op.inputs), (op.op_def.output_arg, op.outputs)):
        rest = iter(tensors)
        for arg in names:
            number = op.get_attr(arg.number_attr) if arg.number_attr else 1
            number = len(op.get_attr(arg.type_list_attr)) if arg.type_list_attr else number
            yield from ((arg.name, tensor) for tensor in itertools.islice(rest, number))


def _is_large(tensor: tf.Tensor) -> bool:
    """Whether it may have a row for every image: it is traced for any number of them."""
    return tensor.dtype != tf.variant and not tensor.shape.is_fully_defined()


def _borders(inputs: Iterable[tf.Tensor], outputs: Iterable[tf.Tensor]) -> set[str]:
    """Complaints about what a function takes and returns: kernels of their own hand it over."""
    return {
        f"{kernel} {tensor.dtype.name}"
        for kernel, tensors in (("_Arg", inputs), ("_Retval", outputs))
        for tensor in filter(_is_large, tensors)
        if _host_arguments(kernel, {"T": {tensor.dtype.as_datatype_enum}}) != set()
    }


def _complaints(op: tf.Operation) -> set[str]:
    """What a GPU leaves to the host of one op: its type, and a type and an argument of it."""
    if op.type == TIES:
        return set()
    host = _host_arguments(op.type, _types(op))
    if host is None:
        return {f"{op.type} {tensor.dtype.name}" for tensor in (*op.inputs, *op.outputs)}
    return {
        f"{op.type} {tensor.dtype.name} {name}"
        for name, tensor in _arguments(op)
        if name in host - SMALL and _is_large(tensor)
    }


def _functions(op: tf.Operation) -> list[tf.Graph]:
    """The bodies that an op calls."""
    values = op.node_def.attr.values()
    listed = [f for value in values for f in (value.func, *value.list.func) if f.name]
    return [op.graph._get_function(function.name).graph for function in listed]


def _of_ops(graph: tf.Graph) -> set[str]:
    complaints = set()
    for op in graph.get_operations():
        if op.type != "Placeholder":
            complaints |= _complaints(op)
        for function in _functions(op):
            complaints |= _borders(op.inputs, op.outputs) | _of_ops(function)
    return complaints


def on_the_host(graph: tf.Graph) -> set[str]:
    """What a GPU leaves to the host of `graph` and of the functions it calls."""
    return _borders(graph.inputs, graph.outputs) | _of_ops(graph)


class Traced(ResidentImages):
    """Images whose passes are traced for any number of images, and kept."""

    def __init__(self, folder: str, precision: Precision = FLOAT32):
        replicas = Replicas(tf.distribute.get_strategy(), precision=precision)
        super().__init__(folder, load_manifest(folder), replicas)
        self.passes: dict[str, dict] = {}

    def compile(self, step, *options):
        @functools.partial(tf.function, autograph=False)
        def on_replica(images, state, shared):
            return step(*images, state, shared, *options)

        name = f"{step.__module__.rpartition('.')[2]}.{step.__name__}"
        traced = self.passes.setdefault(name, {})

        def run(state, shared):
            rows = tf.nest.map_structure(_of_any_number, (self._images, state))
            key = str((rows, tf.nest.map_structure(np.shape, shared)))
            if key not in traced:
                traced[key] = on_replica.get_concrete_function(*rows, shared)
            state, totals = traced[key](self._images, state, shared)
            return state, [total.numpy() for total in totals]

        return run


def _of_any_number(tensor: tf.Tensor | None) -> tf.TensorSpec | None:
    return None if tensor is None else tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


@pytest.fixture(scope="module", autouse=True)
def _gpu_kernels():
    if _host_arguments("MatMul", {"T": {tf.float32.as_datatype_enum}}) is None:
        pytest.skip("this TensorFlow was built without GPU kernels")


@pytest.mark.parametrize(
    ("dtype", "d", "k", "precision"),
    [
        ("uint8", 20, 3, FLOAT32),
        ("uint8", 22, 40, FLOAT32),
        ("float32", 22, 40, FLOAT32),
        ("float32", 20, 3, FLOAT32),
        ("uint8", 22, 40, TF32),
    ],
)
def test_all_of_a_fit_runs_on_a_gpu(make_shards, tmp_path, monkeypatch, dtype, d, k, precision):
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", 40)
    monkeypatch.setattr(hamerly, "GROUP", 20)
    monkeypatch.setattr(kmeans_parallel, "ROUNDS", 1)  # each of them traces its pass again
    pixels = np.random.default_rng(0).integers(0, 256, (200, d)).astype(dtype)
    images = Traced(make_shards(pixels), precision)
    alike = np.repeat(pixels[:1] / images.units.scale, k, axis=0)
    np.save(path := str(tmp_path / "alike.npy"), alike)
    for algorithm, seeding in (("lloyd", "k-means++"), ("hamerly", "k-means||"), ("lloyd", path)):
        config = FitConfig("", "", k, init=seeding, algorithm=algorithm, max_iterations=3)
        loop.run_restarts(images, config, mock.Mock())
    of_bytes = MANY_PASSES if k == 40 else FEW_PASSES
    screened = dtype == "uint8" and precision is FLOAT32
    expected = PASSES | (of_bytes if screened else WITHOUT_A_SCREEN)
    # A screen may have been given up for what serves without one.
    assert images.passes.keys() - (WITHOUT_A_SCREEN - expected) == expected
    assert all(images.passes.values())
    assert left_to_the_host(images) == {}


@pytest.mark.parametrize("largest", [1.5, 3.0])  # on a grid; copies
def test_weights_count_on_a_gpu(make_shards, largest):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8), dtype=np.uint8)
    images = Traced(make_shards(pixels, weights=np.repeat([0, 1, largest, 1], 50)))
    config = FitConfig("", "", 3, init="k-means||", algorithm="lloyd", max_iterations=2)
    loop.run_restarts(images, config, mock.Mock())
    assert "weighted._counted" in images.passes
    assert left_to_the_host(images) == {}


def left_to_the_host(images: Traced) -> dict[str, set[str]]:
    """What a GPU leaves to the host of each pass, if anything."""
    found = {
        name: set().union(*(on_the_host(made.graph) for made in traced.values()))
        for name, traced in images.passes.items()
    }
    return {name: complaints for name, complaints in found.items() if complaints}


def test_a_gather_of_bytes_is_found():
    images = tf.TensorSpec([None, 4], tf.uint8)
    assert _found(tf.gather, images, ROWS) == {"GatherV2 uint8", "GatherV2 int64", "GatherV2 int32"}
    assert _found(take, images, ROWS) == set()


def test_int32_in_the_memory_of_the_host_is_found():
    found = _found(lambda rows: rows - 1, tf.TensorSpec([None], tf.int32))
    assert {"Sub int32 x", "Sub int32 z", "_Arg int32", "_Retval int32"} <= found
    assert _found(lambda row: row - 1, tf.TensorSpec([], tf.int32)) == set()
    assert _found(lambda rows: rows - 1, ROWS) == set()


def test_the_body_of_a_loop_is_searched():
    def body(step, numbers):
        rows = tf.range(tf.shape(numbers)[0])
        return step + 1, numbers + tf.cast(rows, tf.float32)

    def looped(numbers):
        return tf.while_loop(lambda step, _: step < 2, body, (0, numbers))[1]

    assert _found(looped, tf.TensorSpec([None], tf.float32)) == {"Range int32 output"}


def test_the_basis_is_made_on_the_host():
    """The one QR decomposition that a GPU has goes through the host's memory at every step."""
    assert _host_arguments("Qr", {"T": {tf.float64.as_datatype_enum}}) == {"input", "q", "r"}
    matrix = tf.TensorSpec([3, 20], tf.float64)
    columns = tf.TensorSpec([20, 8], "double")
    traced = tf.function(screen.basis_of, autograph=False).get_concrete_function(
        matrix, matrix, columns, columns
    )
    factors = ("Qr", "SelfAdjointEigV2")
    devices = {(op.type, op.device) for op in traced.graph.get_operations() if op.type in factors}
    assert devices == {(factor, "/device:CPU:0") for factor in factors}


def test_sums_of_a_block_are_exact_in_any_order():
    """A GPU adds in any order: every sum of a block has to be an exact float32."""
    assert 255 * MAX_EXACT_IMAGES < 2**24
    assert max(map(images_per_block, range(1, 1000))) <= MAX_EXACT_IMAGES


def _found(function, *arguments: tf.TensorSpec) -> set[str]:
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    return on_the_host(traced.graph)

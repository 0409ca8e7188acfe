"""The result as an ONNX model, for programs without TensorFlow."""

import math
from typing import Any

import numpy as np

from pipeline.errors import UserError, install_hint
from pipeline.shards.pixel_scale import ZERO_DISTANCE, middle_of, squared_norms, units_of

OPSET = 17
HIDDEN = 1e308  # added to a score that is not to be the lowest


def onnx_model(centroids: np.ndarray, image_shape: tuple[int, ...], dtype: str) -> bytes:
    """Makes a model of centroids float32 [k, d]: the content of a .onnx file.

    It takes `images` [batch, *image_shape] of `dtype`, and returns `cluster` int32 [batch],
    `distance` float32 [batch] and `distances` float32 [batch, k], in published units. It computes
    in float64: for images of bytes that is exact.

    Raises:
      UserError: the package onnx is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise UserError(f"--what onnx: needs onnx: {install_hint('onnx')}") from error
    graph = _Graph(centroids, image_shape, dtype)
    graph.assign()
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    outputs = [
        helper.make_tensor_value_info("cluster", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("distance", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("distances", TensorProto.FLOAT, ["batch", len(centroids)]),
    ]
    images = helper.make_tensor_value_info("images", kind, ["batch", *image_shape])
    made = helper.make_graph(graph.nodes, "k-means", [images], outputs, graph.constants)
    versions = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, producer_name="kmeans-job", opset_imports=versions)
    model.ir_version = 8  # of opset 17, so that older runtimes can load it
    checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    """The nodes of a model, and its constants, as they are added."""

    def __init__(self, centroids: np.ndarray, image_shape: tuple[int, ...], dtype: str):
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._shape, self._k = image_shape, len(centroids)
        self._units = units_of(np.dtype(dtype), math.prod(image_shape))
        self._centroids = centroids.astype(np.float64)

    def assign(self) -> None:
        """Adds all that makes the outputs of the images."""
        wide = self._add("Cast", "images", to=11)  # float64
        rows = self._add("Reshape", wide, self._constant(np.array([-1, math.prod(self._shape)])))
        middle = middle_of(self._centroids, self._units)
        around = self._add("Sub", rows, self._constant(middle)) if middle.any() else rows
        near = self._centroids - middle
        product = self._add("MatMul", around, self._constant(-2.0 * near.T))
        bias = self._units.scale * squared_norms(near, self._units)
        scores = self._add("Add", product, self._constant(bias))
        squares = self._add("Mul", around, around)
        norms = self._add("ReduceSum", squares, self._constant(np.array([1])), keepdims=1)
        squared = self._squared(scores, norms)
        cluster = self._lowest(scores)
        if not self._units.step:
            squared, cluster = self._directly(rows, scores, squared, cluster)
        distances = self._add("Cast", self._add("Sqrt", squared), to=1, name="distances")
        own = self._add("GatherElements", distances, cluster, axis=1)
        axis = self._constant(np.array([1]))
        self._add("Squeeze", own, axis, name="distance")
        self._add("Cast", self._add("Squeeze", cluster, axis), to=6, name="cluster")

    def _lowest(self, scores: str) -> str:
        """Adds what finds the lowest score of each row, of equal ones the first: int64 [n, 1]."""
        return self._add("ArgMin", scores, axis=1, keepdims=1)

    def _squared(self, scores: str, norms: str) -> str:
        """Adds what `to_squared_distances` does."""
        inverse, zero = self._constant(1 / self._units.scale), self._constant(0.0)
        sums = self._add("Add", self._add("Mul", norms, inverse), scores)
        squared = self._add("Mul", sums, inverse)
        share = self._constant(ZERO_DISTANCE * (1 / self._units.scale**2))
        is_rounding = self._add("LessOrEqual", squared, self._add("Mul", norms, share))
        return self._add("Where", is_rounding, zero, squared)

    def _directly(self, rows: str, scores: str, squared: str, cluster: str) -> tuple[str, str]:
        """Adds what decides by Σ (x − c)² between the two centroids of the lowest scores.

        Scores of floats are rounded; so are distances that are made of them.
        """
        numbers = self._constant(np.arange(self._k)[None])
        is_first = self._add("Equal", numbers, cluster)
        own = self._direct(rows, cluster)
        if self._k > 1:
            hidden = self._add("Where", is_first, self._constant(HIDDEN), scores)
            second = self._lowest(hidden)
            other = self._direct(rows, second)
            lower = self._add("Less", second, cluster)
            is_tie = self._add("And", self._add("Equal", other, own), lower)
            is_second = self._add("Or", self._add("Less", other, own), is_tie)
            squared = self._with(squared, self._add("Equal", numbers, second), other)
            squared = self._with(squared, is_first, own)
            return squared, self._add("Where", is_second, second, cluster)
        return self._with(squared, is_first, own), cluster

    def _direct(self, rows: str, cluster: str) -> str:
        """Adds what sums up the squared differences from the centroids `cluster`: [n, 1]."""
        axis = self._constant(np.array([1]))
        numbers = self._add("Squeeze", cluster, axis)
        centroids = self._add("Gather", self._constant(self._centroids), numbers, axis=0)
        difference = self._add("Sub", rows, centroids)
        return self._add("ReduceSum", self._add("Mul", difference, difference), axis, keepdims=1)

    def _with(self, squared: str, where: str, values: str) -> str:
        return self._add("Where", where, values, squared)

    def _add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node; returns the name of what it makes."""
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _constant(self, value: Any) -> str:
        """Adds a constant; returns its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

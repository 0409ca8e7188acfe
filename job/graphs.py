"""Graphs that TensorFlow has traced: found quickly, and without a word."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipeline.terminal import without_chatter


def traced(graph: Any) -> Callable:
    """`graph` with its traces found by the shapes of what they take: TensorFlow looks for longer.

    Without what it prints on some processors when it optimises one.
    """
    traces: dict[tuple, Callable] = {}

    def run(*arguments):
        leaves = tf.nest.flatten(arguments, expand_composites=True)
        key = tuple(leaf if leaf is None else (*leaf.shape, leaf.dtype) for leaf in leaves)
        if key in traces:
            return traces[key](*arguments)
        with without_chatter():
            traces[key] = graph.get_concrete_function(*arguments)
            return traces[key](*arguments)

    return run

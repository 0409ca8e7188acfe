"""Graphs found by the shapes and dtypes of their arguments, without a trace too many."""

import numpy as np
import tensorflow as tf

from job.kmeans.graphs import traced
from job.kmeans.scores import Assignment


def test_a_graph_is_traced_once_for_each_shape_and_dtype():
    traces = []

    @tf.function(autograph=False)
    def double(pair, more):
        traces.append(more)
        gaps = pair.gaps if more is None else pair.gaps + more
        return Assignment(2 * pair.clusters, 2 * gaps)

    run = traced(double)
    pair = Assignment(np.arange(3), np.ones(3, np.float32))
    for _ in range(2):
        found = run(pair, None)
        assert found.clusters.numpy().tolist() == [0, 2, 4]
        assert found.gaps.numpy().tolist() == [2, 2, 2]
    assert len(traces) == 1
    other = Assignment(np.arange(3) + 5, np.zeros(3, np.float32))
    assert run(other, None).clusters.numpy().tolist() == [10, 12, 14]
    assert len(traces) == 1  # other values, same graph
    assert run(pair, np.float32(1)).gaps.numpy().tolist() == [4, 4, 4]
    assert run(Assignment(np.arange(2), np.ones(2, np.float32)), None).gaps.shape == [2]
    assert run(Assignment(np.arange(3), np.ones(3)), None).gaps.dtype == tf.float64
    assert len(traces) == 4

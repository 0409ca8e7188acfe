"""Axes of the largest variance, as numpy's decomposition has them."""

import numpy as np
import pytest

from job.report import axes


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (7, 7), (2, 9), (9, 2)])
@pytest.mark.parametrize("many", [axes.MANY, 3])  # with all products, and without
def test_as_a_decomposition_of_all(monkeypatch, shape, many):
    monkeypatch.setattr(axes, "MANY", many)
    rows = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)
    rows -= rows.mean(axis=0)
    expected = np.linalg.svd(rows)[2][:2]
    found = axes.main_axes(rows)
    rank = min(2, shape[0] - 1)
    assert len(found) == rank
    signs = np.sign((found * expected[:rank]).sum(axis=1))
    np.testing.assert_allclose(found * signs[:, None], expected[:rank], atol=1e-9)
    np.testing.assert_array_equal(found, axes.main_axes(rows))


@pytest.mark.parametrize("many", [axes.MANY, 3])
def test_no_more_axes_than_there_is_variance(monkeypatch, many):
    monkeypatch.setattr(axes, "MANY", many)
    line = np.outer(np.arange(9) - 4.0, np.arange(1, 9))
    (axis,) = axes.main_axes(line)
    np.testing.assert_allclose(np.abs(axis), np.arange(1, 9) / np.linalg.norm(np.arange(1, 9)))
    assert axes.main_axes(np.zeros((1, 4))).shape == (0, 4)
    assert axes.main_axes(np.zeros((2, 1))).shape == (0, 1)

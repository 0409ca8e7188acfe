"""What a gap loses as centroids move."""

import numpy as np
import pytest

from job.kmeans.hamerly.few import losses_of


def test_a_gap_loses_the_move_of_its_centroid_and_the_farthest_other():
    before = np.zeros((4, 2))
    after = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    losses = losses_of(after, before)
    np.testing.assert_allclose(losses, [3 + 5, 0 + 5, 5 + 3, 1 + 5], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e6])
def test_losses_are_rounded_up(scale):
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 300, 5)) * scale
    moves = np.linalg.norm(after - before, axis=1)
    exact = np.array([move + np.delete(moves, own).max() for own, move in enumerate(moves)])
    assert (losses_of(after, before).astype(np.float64) > exact).all()


def test_one_centroid_has_no_other():
    np.testing.assert_allclose(losses_of(np.ones((1, 1)), np.zeros((1, 1))), [1], rtol=1e-5)

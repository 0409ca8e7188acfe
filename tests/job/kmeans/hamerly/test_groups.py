"""Groups of centroids, what gaps lose as centroids move, and fits with few open groups."""

import numpy as np
import pytest

from job.kmeans import hamerly
from job.kmeans.hamerly.groups import groups_of, losses_of


@pytest.mark.parametrize(("k", "count"), [(2, 1), (4, 2), (9, 4), (100, 7)])
def test_groups_have_each_centroid_once_and_two_at_least(k, count):
    centroids = np.random.default_rng(0).normal(size=(k, 3))
    members, places = groups_of(centroids, count)
    assert members.shape == (count, -(-k // count))
    assert sorted(members[members < k].tolist()) == list(range(k))
    assert ((members < k).sum(axis=1) >= 2).all()
    assert members.ravel()[places].tolist() == list(range(k))


def test_groups_are_of_near_centroids():
    centroids = np.array([[0, 0], [9, 9], [0, 1], [9, 8], [-9, 0], [-9, 1]], np.float64)
    members, _ = groups_of(centroids, 3)
    assert sorted(sorted(row) for row in members.tolist()) == [[0, 2], [1, 3], [4, 5]]


def test_equal_centroids_are_divided_too():
    members, _ = groups_of(np.ones((8, 2)), 4)
    assert sorted(members.ravel().tolist()) == list(range(8))


def of_one_group(after, before):
    return losses_of(after, before, groups_of(after, 1))[:, 0]


def test_a_gap_loses_the_move_of_its_centroid_and_the_farthest_other():
    before = np.zeros((4, 2))
    after = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    np.testing.assert_allclose(of_one_group(after, before), [3 + 5, 0 + 5, 5 + 3, 1 + 5], rtol=1e-5)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e6])
def test_losses_are_rounded_up(scale, count):
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 300, 5)) * scale
    groups = groups_of(before, count)
    moves = np.linalg.norm(after - before, axis=1)
    parts = [part[part < 300] for part in groups.members]
    exact = [
        [move + moves[part[part != own]].max() for part in parts] for own, move in enumerate(moves)
    ]
    losses = losses_of(after, before, groups)
    assert (losses.astype(np.float64) > exact).all()
    np.testing.assert_allclose(losses, exact, rtol=1e-4)


def test_one_centroid_has_no_other():
    np.testing.assert_allclose(of_one_group(np.ones((1, 1)), np.zeros((1, 1))), [1], rtol=1e-5)


@pytest.mark.parametrize("group", [2, 3])
def test_groups_have_the_answer_of_lloyd(fit, make_shards, monkeypatch, group):
    """With values of few levels many images are as near to two centroids of different groups."""
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", 2)
    monkeypatch.setattr(hamerly, "GROUP", group)
    rng = np.random.default_rng(1)
    middles = rng.integers(0, 12, (30, 6))
    images = (middles[rng.integers(0, 30, 2000)] + rng.integers(-3, 4, (2000, 6))) / 4
    shards, initial = make_shards(images.astype(np.float32)), images[:40]
    plain = fit(shards, 40, init=initial, algorithm="lloyd")
    grouped = fit(shards, 40, init=initial, algorithm="hamerly")
    np.testing.assert_array_equal(grouped.clusters, plain.clusters)
    np.testing.assert_array_equal(grouped.centroids, plain.centroids)
    changed = [[line["changed"] for line in found.history] for found in (plain, grouped)]
    assert changed[0] == changed[1]

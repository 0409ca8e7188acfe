"""k-means||: candidates drawn by their distance, weighted by who is near, and reduced to k."""

import numpy as np
import pytest
from draws import LINE

from job.kmeans import kmeans_parallel
from job.kmeans.kmeans_parallel import candidates, reduce_weighted


@pytest.mark.parametrize("k", [1, 5, 40])
def test_candidates_are_weighted_by_the_images_nearest_to_them(arrangements, k):
    pixels, (one, other) = arrangements
    first = pixels[7:8]
    found, weights = candidates(one, first, k, 3, "init/0")
    again, same = candidates(other, first, k, 3, "init/0")
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(weights, same)
    np.testing.assert_array_equal(found[0], first[0])
    assert len(np.unique(found, axis=0)) == len(found) >= k
    wide = pixels.astype(int)
    squared = np.square(wide[:, None] - found.astype(int)).sum(axis=2)
    owners = squared.argmin(axis=1)  # of equally near candidates, the earliest
    np.testing.assert_array_equal(weights, np.bincount(owners, minlength=len(found)))


def test_fewer_distinct_images_are_all_candidates(images_of):
    """Equal images may be drawn in one round: the first of them is the one they are nearest to."""
    images = images_of(np.repeat(LINE[:3], 5, axis=0))
    found, weights = candidates(images, LINE[:1], 10, 0, "init/0")
    assert {*found[:, 0].tolist()} == {*LINE[:3, 0].tolist()}
    assert sorted(weights[weights > 0].tolist()) == [5, 5, 5]


def test_an_image_is_drawn_with_the_probability_of_its_distance(images_of, monkeypatch):
    """In one round with ℓ = 1/2: D² / (2 Σ D²), independently of the others."""
    monkeypatch.setattr(kmeans_parallel, "ROUNDS", 1)
    images = images_of(LINE)
    squared = np.square(LINE[:, 0].astype(float))
    expected = squared / squared.sum() / 2
    nearest = images.state(lambda count: squared)
    seeds, drawn = 4000, np.zeros(4)
    for seed in range(seeds):
        places = kmeans_parallel._draw(images, nearest, 1, squared.sum(), seed, "init/0/1")
        drawn[[place.row for place in places]] += 1
    assert drawn[0] == 0  # the candidate itself
    deviation = np.sqrt(expected * (1 - expected) * seeds)
    assert (np.abs(drawn - expected * seeds) <= 4 * deviation).all()


def test_the_first_is_drawn_by_weight_and_the_next_by_distance_too():
    pixels = np.array([[0], [1], [100]], np.uint8)
    weights = np.array([1.0, 0.0, 3.0])
    rows = [reduce_weighted(pixels, weights, 2, seed, "init/0").tolist() for seed in range(2000)]
    first = np.bincount([first for first, _ in rows], minlength=3)
    assert first[1] == 0
    assert abs(first[2] - 1500) < 4 * np.sqrt(2000 * 0.75 * 0.25)
    assert all({*pair} == {0, 2} for pair in rows)


def test_equal_candidates_are_drawn_once():
    pixels = np.array([[5], [9], [5], [9], [200]], np.uint8)
    for seed in range(20):
        rows = reduce_weighted(pixels, np.ones(5), 5, seed, "init/0")
        assert sorted(pixels[rows, 0].tolist()) == [5, 9, 200]

"""k-means||: candidates drawn by their distance, weighted by who is near, and reduced to k."""

import numpy as np
import pytest
from draws import LINE

from job import hashing
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


def reduced_one_by_one(pixels, weights, k, seed, purpose):
    """Weighted k-means++ as it is defined: all distances are known after each choice."""
    wide, numbers = pixels.astype(np.float64), np.arange(len(pixels), dtype=np.uint64)
    rows, nearest = [], np.ones(len(pixels))
    while len(rows) < k:
        hashes = hashing.hashes(numbers, seed, f"{purpose}/reduce/{len(rows)}")
        rows.append(int(hashing.race(hashes, weights * nearest).argmin()))
        squared = np.square(wide - wide[rows[-1]]).sum(axis=1)
        nearest = squared if len(rows) == 1 else np.minimum(nearest, squared)
    return rows


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("at_a_time", [1, 2, 64])
def test_distances_are_brought_up_to_date_only_where_they_matter(monkeypatch, dtype, at_a_time):
    monkeypatch.setattr(kmeans_parallel, "CHOSEN_AT_A_TIME", at_a_time)
    monkeypatch.setattr(kmeans_parallel, "LOWERED_AT_A_TIME", 37)
    rng = np.random.default_rng(at_a_time)
    pixels = np.unique(rng.integers(0, 30, (300, 3)), axis=0).astype(dtype)
    weights = rng.integers(1, 9, len(pixels)).astype(float)
    expected = reduced_one_by_one(pixels, weights, 150, 5, "init/0")
    assert reduce_weighted(pixels, weights, 150, 5, "init/0").tolist() == expected

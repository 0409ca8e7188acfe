"""k-means++: draws in proportion to the squared distance, one by one, resumable."""

import itertools

import numpy as np
import pytest
from draws import LINE, check_counts, draws
from integer_products import INTEGERS
from kmeans_graphs import bytes_of, graph

from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import stored
from job.kmeans.init import Seeding
from job.kmeans.kmeans_plus_plus import initial_images as draw_images
from job.kmeans.kmeans_plus_plus import nearest_of
from job.kmeans.precision import FLOAT32


def test_draws_are_in_proportion_to_the_squared_distance(line):
    shares = {}
    for a, b, c in itertools.permutations(LINE[:, 0].astype(int).tolist(), 3):
        others = LINE[:, 0].astype(int)
        second = np.square(others - a)
        third = np.minimum(second, np.square(others - b))
        of = {int(x): i for i, x in enumerate(others)}
        shares[a, b, c] = second[of[b]] / second.sum() * third[of[c]] / third.sum() / 4

    def draw(seed: int) -> np.ndarray:
        return draw_images(line, Seeding(3, seed, "init/0", lambda _: None, []))

    counts = draws(draw, 1200)
    rare = {key for key, share in shares.items() if share * 1200 < 5}
    for table in (counts, shares):
        table["rare"] = sum(table.pop(key, 0) for key in rare)
    check_counts(counts, shares)


def test_progress_is_told(line):
    told: list[int] = []
    draw_images(line, Seeding(4, 0, "init/0", told.append, []))
    assert told == [1, 2, 3, 4]


def test_seeding_resumes_from_what_is_chosen(arrangements):
    images = arrangements[1][1]
    whole = draw_images(images, Seeding(9, 0, "init/0", lambda _: None, []))
    chosen = list(whole[:4])
    told: list[int] = []
    rest = draw_images(images, Seeding(9, 0, "init/0", told.append, chosen))
    np.testing.assert_array_equal(rest, whole)
    np.testing.assert_array_equal(chosen, whole)
    assert told == [4, 5, 6, 7, 8, 9]


def test_all_chosen_before_need_no_pass(line):
    told: list[int] = []
    found = draw_images(line, Seeding(2, 0, "init/0", told.append, list(LINE[[2, 0]])))
    np.testing.assert_array_equal(found, LINE[[2, 0]])
    assert told == [2]


@pytest.mark.parametrize("precision", [FLOAT32, INTEGERS], ids=["float32", "integers"])
@pytest.mark.parametrize("d", [3, 784, 4385, 4386, 5000])
def test_distances_between_images_are_exact(emulated_integers, d, precision):
    images = bytes_of(np.random.default_rng(d), 40, d)
    images[1], images[2], images[3] = 255, 0, images[0]
    function = graph(nearest_of, "uint8", d)
    nearest, expected = np.full(40, np.inf), np.full(40, np.inf)
    for other in images[:3]:
        nearest = function(stored(images), squared_pixel_norms(images), nearest, other, precision)
        squared = np.square(images.astype(np.int64) - other).sum(axis=1)
        expected = np.minimum(expected, squared)
        np.testing.assert_array_equal(nearest, expected)


@pytest.mark.parametrize("offset", [0, 300])
def test_distances_between_float_images_are_those_of_their_differences(offset):
    rng = np.random.default_rng(3)
    images = (offset + rng.normal(size=(500, 33))).astype(np.float32)
    images[100:110] = images[0]
    images[200] = images[0] + np.float32(2.0**-14)  # nearer than the sums of squares can tell
    function = graph(nearest_of, "float32", 33)
    nearest, expected = np.full(500, np.inf), np.full(500, np.inf)
    for other in images[:20]:
        nearest = function(images, squared_pixel_norms(images), nearest, other, FLOAT32)
        expected = np.minimum(expected, np.square(images.astype(np.float64) - other).sum(axis=1))
    np.testing.assert_allclose(nearest, expected, rtol=1e-14)
    assert np.flatnonzero(nearest == 0).tolist() == [*range(20), *range(100, 110)]

"""k-means++: draws in proportion to the squared distance, one by one, resumable."""

import itertools

import numpy as np
from draws import LINE, check_counts, draws

from job.kmeans.init import Seeding
from job.kmeans.kmeans_plus_plus import initial_images as draw_images


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

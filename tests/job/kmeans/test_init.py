"""Initial centroids: functions of the images, k and the seed, drawn as often as they should be."""

import itertools

import numpy as np
import pytest
from draws import LINE, check_counts, draws

from job.config import FitConfig
from job.images.resident import ResidentImages
from job.kmeans import INITS, init
from pipeline.errors import UserError


def centroids_of(images: ResidentImages, k: int, restart: int = 0, **options) -> np.ndarray:
    config = FitConfig("shards", "out", k, **options)
    return init.initial_centroids(images, config, restart, lambda _: None, [])


# Functions of the images alone.


@pytest.mark.parametrize("method", INITS)
def test_where_images_lie_does_not_matter(arrangements, method):
    pixels, (one, other) = arrangements
    found = [centroids_of(images, 20, init=method, seed=5) for images in (one, other)]
    np.testing.assert_array_equal(found[0], found[1])
    rows = np.rint(found[0] * 255)
    np.testing.assert_allclose(found[0] * 255, rows, atol=1e-6)
    assert len(np.unique(rows, axis=0)) == 20
    assert (rows[:, None] == pixels).all(axis=2).any(axis=1).all()


@pytest.mark.parametrize("method", INITS)
def test_seeds_and_restarts_start_elsewhere(arrangements, method):
    images = arrangements[1][0]
    starts = [
        centroids_of(images, 5, restart, init=method, seed=seed).tobytes()
        for seed, restart in [(0, 0), (0, 1), (1, 0)]
    ]
    assert len(set(starts)) == 3


def test_fewer_clusters_start_from_the_first_of_more(arrangements):
    images = arrangements[1][0]
    for method in ("random", "k-means++"):
        few, many = (centroids_of(images, k, init=method) for k in (3, 8))
        np.testing.assert_array_equal(few, many[:3])


@pytest.mark.parametrize("method", INITS)
def test_as_many_centroids_as_images(line, method):
    found = centroids_of(line, 4, init=method) * 255
    np.testing.assert_allclose(found[found[:, 0].argsort()], LINE, atol=1e-6)


# Distributions.


def test_random_draws_without_replacement(line):
    counts = draws(lambda seed: init.random_images(line, 2, seed, "init/0"), 2000)
    pairs = list(itertools.permutations(LINE[:, 0].tolist(), 2))
    check_counts(counts, dict.fromkeys(pairs, 1 / len(pairs)))


@pytest.mark.parametrize("method", ["k-means++", "k-means||"])
def test_far_groups_are_all_found(images_of, method):
    rng = np.random.default_rng(1)
    corners = np.array(list(itertools.product([20, 230], repeat=3)))
    pixels = np.repeat(corners, 25, axis=0) + rng.integers(-3, 4, (200, 3))
    images = images_of(pixels.astype(np.uint8))
    for seed in range(5):
        found = centroids_of(images, 8, init=method, seed=seed) > 0.5
        assert len(np.unique(found, axis=0)) == 8


@pytest.mark.parametrize("method", ["k-means++", "k-means||"])
def test_fewer_distinct_images_than_k(images_of, method):
    images = images_of(np.repeat(LINE[:3], 4, axis=0))
    with pytest.raises(UserError, match=r"--k 4: .*only 3 distinct images"):
        centroids_of(images, 4, init=method)


# Given centroids.


def test_given_centroids_are_taken_as_they_are(line, tmp_path):
    given = np.array([[0.25, 1.0], [0.0, 0.5]])
    np.save(tmp_path / "given.npy", given)
    np.testing.assert_array_equal(centroids_of(line, 2, init=str(tmp_path / "given.npy")), given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\), but --k 2 .* need \(2, 2\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.array([[0, np.nan], [0, 0]]), "not finite"),
        (np.array([[0, np.inf], [0, 0]]), "not finite"),
        (np.array([["a", "b"], ["c", "d"]]), "not finite numbers"),
        (np.array([[0, 1j], [0, 0]]), "not finite numbers"),
        (np.array([[0, 255], [0, 0]]), r"0 … 255.* divide by 255"),
        (np.array([[0, -0.1], [0, 0]]), "divide by 255"),
        (np.array([[None, 0], [0, 0]]), "cannot be read"),
    ],
)
def test_given_centroids_that_do_not_fit(line, tmp_path, given, match):
    np.save(path := tmp_path / "given.npy", given, allow_pickle=True)
    with pytest.raises(UserError, match=match) as error:
        centroids_of(line, 2, init=str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_given_files_that_are_no_arrays(line, tmp_path, content):
    (path := tmp_path / "given.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"given\.npy: cannot be read"):
        centroids_of(line, 2, init=str(path))


def test_given_centroids_of_float_images_may_lie_anywhere(images_of, tmp_path):
    images = images_of(LINE.astype(np.float32))
    given = np.array([[-3, 1000], [5, 7]])
    np.save(tmp_path / "given.npy", given)
    found = centroids_of(images, 2, init=str(tmp_path / "given.npy"))
    np.testing.assert_array_equal(images.frame.published(found), given)
    np.save(tmp_path / "given.npy", given * 1e30)
    with pytest.raises(UserError, match=r"given\.npy: values up to 1e\+33, far larger"):
        centroids_of(images, 2, init=str(tmp_path / "given.npy"))

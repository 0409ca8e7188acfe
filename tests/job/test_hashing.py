"""Hashes of ids: where an image lies does not matter, and what is drawn looks random."""

import numpy as np
import pytest
import shard_set
from scipy.stats import chi2

from job import hashing

COUNT = 50_000


@pytest.fixture(scope="module")
def digests() -> np.ndarray:
    return hashing.digests(shard_set.numbered(COUNT))


def check_uniform(counts: np.ndarray, shares: np.ndarray | float) -> None:
    """Pearson's test of counts against the shares they should have."""
    expected = np.broadcast_to(shares, counts.shape) * counts.sum()
    assert np.sum((counts - expected) ** 2 / expected) < chi2.ppf(0.999, counts.size - 1)


def test_values_that_must_never_change():
    """Another value here is another result for every user."""
    digests = hashing.digests(["train/00000", "élan"])
    assert digests.tolist() == [13937786127953185667, 10841085047674288120]
    hashes = hashing.hashes(digests, 0, "init/0")
    assert hashes.tolist() == [14402933398469486876, 4552388918539290863]


def test_hashes_follow_the_image(digests):
    order = np.random.default_rng(0).permutation(COUNT)
    hashes = hashing.hashes(digests, 7, "init/0")
    np.testing.assert_array_equal(hashing.hashes(digests[order], 7, "init/0"), hashes[order])
    np.testing.assert_array_equal(hashing.hashes(digests[5:6], 7, "init/0"), hashes[5:6])


def test_no_two_images_share_a_hash(digests):
    assert len(np.unique(digests)) == COUNT
    assert len(np.unique(hashing.hashes(digests, 0, "empty"))) == COUNT


@pytest.mark.parametrize("shift", [0, 28, 56])
def test_bytes_of_hashes_are_uniform(digests, shift):
    hashes = hashing.hashes(digests, 0, "init/0") >> np.uint64(shift)
    check_uniform(np.bincount((hashes & np.uint64(255)).astype(int), minlength=256), 1 / 256)


@pytest.mark.parametrize(
    "other", [(1, "init/0"), (0, "init/1"), (0, "init/0/1"), (0, "examples")], ids=str
)
def test_seeds_and_purposes_are_independent(digests, other):
    one, two = (hashing.hashes(digests, *key) for key in [(0, "init/0"), other])
    table = np.zeros((8, 8), int)
    np.add.at(table, tuple((part >> np.uint64(61)).astype(int) for part in (one, two)), 1)
    check_uniform(table, 1 / 64)


def test_uniforms_are_strictly_between_0_and_1(digests):
    extremes = np.array([0, 2**64 - 1, 2**64 - 2**11, 2**63], np.uint64)
    uniforms = hashing.uniforms(extremes)
    assert (uniforms > 0).all()
    assert (uniforms < 1).all()
    uniforms = hashing.uniforms(hashing.hashes(digests, 0, "init/0"))
    check_uniform(np.histogram(uniforms, 100, (0, 1))[0], 1 / 100)


def test_a_race_is_won_in_proportion_to_the_weight():
    weights = np.array([0, 1, 2, 5, 0, 12], np.float64)
    digests = np.arange(6, dtype=np.uint64)
    winners = [
        np.argmin(hashing.race(hashing.hashes(digests, seed, "race"), weights))
        for seed in range(4000)
    ]
    counts = np.bincount(winners, minlength=6)
    assert (counts[weights == 0] == 0).all()
    check_uniform(counts[weights > 0], weights[weights > 0] / weights.sum())

"""When a screen is made anew, and when it is given up."""

import numpy as np
import pytest

from job.kmeans.hamerly import upkeep as module
from job.kmeans.hamerly.upkeep import IMAGE_COST, WORTHWHILE, ScreenUpkeep
from job.kmeans.precision import FLOAT32

NUM_IMAGES, K, COLUMNS = 1000, 70, 20
PRICE = NUM_IMAGES * (COLUMNS + IMAGE_COST) / (K + IMAGE_COST)  # of a screen: 500 images


class FakeImages:
    """Images of which only the number counts; a projection is the number of those before it."""

    num_images, num_features = NUM_IMAGES, 30
    units, precision = None, FLOAT32

    def __init__(self):
        self.projections = 0

    def compile(self, step, *options):
        def project(state, basis):
            self.projections += 1
            return self.projections, []

        return project


@pytest.fixture
def images():
    return FakeImages()


@pytest.fixture
def upkeep(images) -> ScreenUpkeep:
    return ScreenUpkeep(images, K, COLUMNS)


def directions() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((FakeImages.num_features, COLUMNS))


def renew(upkeep: ScreenUpkeep) -> None:
    centroids = np.random.default_rng(2).random((K, FakeImages.num_features))
    upkeep.renew(centroids, centroids)


def test_a_screen_is_due_once_the_full_passes_cost_as_much(upkeep, images):
    assert not upkeep.is_due
    assert upkeep.basis is None
    upkeep.note_full_pass(directions())  # 1000 > 500
    assert upkeep.is_due
    renew(upkeep)
    assert not upkeep.is_due
    assert upkeep.basis.columns.shape == (FakeImages.num_features, COLUMNS)
    assert upkeep.rows == images.projections == 1


def test_of_many_centroids_some_make_the_basis(upkeep, monkeypatch):
    centroids = np.zeros((K, FakeImages.num_features))
    monkeypatch.setattr(module, "SAMPLE_CENTROIDS", 20)  # every fourth
    centroids[::4, :18] = np.random.default_rng(3).random((18, 18))
    upkeep.renew(centroids, centroids)
    spanned = upkeep.basis.columns.numpy()[:18]
    np.testing.assert_allclose(spanned @ spanned.T, np.eye(18), atol=1e-6)


def test_a_screen_is_due_once_it_leaves_more_in_doubt_than_when_it_was_fresh(upkeep):
    renew(upkeep)
    upkeep.note_screened(800, 80)  # fresh: a tenth is scored
    assert not upkeep.is_due
    upkeep.note_screened(800, 0)  # better than fresh loses nothing
    for _ in range(2):
        upkeep.note_screened(800, 320)  # 240 more than a fresh one would leave
        assert not upkeep.is_due
    upkeep.note_screened(800, 320)
    assert upkeep.is_due  # 720 > 500
    renew(upkeep)
    assert not upkeep.is_due
    upkeep.note_screened(800, 320)  # of the new one this is the fresh share
    upkeep.note_screened(800, 320)
    assert not upkeep.is_due


@pytest.mark.parametrize(("speed", "share"), [(0, 1.0), (2, 1.0), (4, 0.5)])
def test_a_screen_that_is_no_help_is_not_worthwhile(images, speed, share):
    """The less, the cheaper scores of all centroids are: of bytes they take two products."""
    images.precision = FLOAT32._replace(piece_speed=speed)
    upkeep = ScreenUpkeep(images, K, COLUMNS)
    renew(upkeep)
    upkeep.note_screened(NUM_IMAGES, share * WORTHWHILE * NUM_IMAGES)
    assert upkeep.is_worthwhile
    upkeep.note_screened(NUM_IMAGES, share * WORTHWHILE * NUM_IMAGES + 1)
    assert not upkeep.is_worthwhile
    upkeep.note_screened(NUM_IMAGES, 0)
    upkeep.start()
    assert not upkeep.is_worthwhile  # for these images none is


def test_a_restart_forgets_the_screen_and_what_it_costs(upkeep):
    renew(upkeep)
    upkeep.note_screened(NUM_IMAGES, NUM_IMAGES)
    renew(upkeep)
    upkeep.start()
    assert (upkeep.basis, upkeep.rows) == (None, ())
    assert not upkeep.is_due
    upkeep.note_full_pass(directions())
    assert upkeep.is_due


def test_nothing_in_doubt_is_no_loss(upkeep):
    renew(upkeep)
    upkeep.note_screened(0, 0)
    upkeep.note_screened(0, 0)
    assert not upkeep.is_due


def test_probes_are_the_same_each_time(upkeep):
    np.testing.assert_array_equal(upkeep.probes(), upkeep.probes())

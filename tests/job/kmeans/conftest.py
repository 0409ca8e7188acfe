"""Sets of images in memory, as initialisations and the loop see them."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from draws import LINE

from pipeline.shards.manifest import load_manifest


@pytest.fixture(scope="session")
def images_of(make_shards, cpus) -> Callable:
    """Images [n, d] resident on some replicas."""
    from job.distribute.replicas import local_replicas
    from job.images.resident import ResidentImages

    def make(pixels: np.ndarray, replicas: int = 1, **how) -> ResidentImages:
        folder = make_shards(pixels, **how)
        return ResidentImages(folder, load_manifest(folder), local_replicas(replicas))

    return make


@pytest.fixture(scope="session")
def line(images_of):
    """The images of LINE."""
    return images_of(LINE)


@pytest.fixture(scope="session")
def arrangements(images_of) -> tuple[np.ndarray, list]:
    """The same images on one replica, and in another order on three."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 12), dtype=np.uint8)
    how = {"order": rng.permutation(150), "num_shards": 4, "block_rows": 9}
    return pixels, [images_of(pixels), images_of(pixels, replicas=3, **how)]


@pytest.fixture(autouse=True)
def screens_of_small_sets(monkeypatch):
    """Lets small sets have a screen, since those of the tests are small, on any processor."""
    from job.kmeans import hamerly

    monkeypatch.setattr(hamerly, "LEAST_PIXELS", 0)
    monkeypatch.setattr(hamerly, "CHEAP_CENTROIDS", 0)
    monkeypatch.setattr(hamerly, "CHEAP_SPEED", 1000)


@pytest.fixture
def emulated_integers(monkeypatch) -> mock.Mock:
    """Products of bytes with integers on any machine; counts the graphs that call for them."""
    from integer_products import emulated

    from job.kmeans import kmeans_plus_plus, pieces

    counted = mock.Mock(side_effect=emulated)
    for module in (pieces, kmeans_plus_plus):
        monkeypatch.setattr(module, "multiply", counted)
    return counted

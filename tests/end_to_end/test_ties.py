"""Images that are equally near to several centroids have the lowest of them, whoever asks."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from job.distribute.replicas import local_replicas
from job.images.resident import ResidentImages
from job.kmeans import ALGORITHMS, load
from job.result.assigner import Assigner
from job.result.saved_model import build_model
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards.block import Block
from pipeline.shards.manifest import load_manifest


def lowest_nearest(images: np.ndarray, centroids: np.ndarray) -> list[int]:
    """The cluster of each image uint8 [n, d], decided in fractions."""
    rows = [[Fraction(float(value)) for value in row] for row in centroids]
    found = []
    for image in images.tolist():
        squared = [
            sum(
                (Fraction(pixel, 255) - value) ** 2 for pixel, value in zip(image, row, strict=True)
            )
            for row in rows
        ]
        found.append(squared.index(min(squared)))
    return found


def checkerboards(side: int) -> np.ndarray:
    """All black and white images of `side` pixels, flat."""
    return np.array(list(itertools.product((0, 255), repeat=side)), np.uint8)


def mirrored(side: int, k: int) -> np.ndarray:
    """Centroids float32 [k, side], of which many are equally near to checkerboards.

    Black and white exchanged, and pixels in another order, they have other norms, whose last bits
    float64 rounds.
    """
    one = np.random.default_rng(k).integers(1, 2**24, side) / 2**24
    orders = itertools.islice(itertools.permutations(range(side)), k)
    rows = [one[list(order)] for order in orders]
    rows = [np.where(np.arange(side) < row % side, 1 - c, c) for row, c in enumerate(rows)]
    return np.array(rows).astype(np.float32)


@pytest.mark.parametrize(("side", "k"), [(3, 3), (3, 6), (4, 8)])
def test_ties_go_to_the_lowest(make_shards, side, k):
    images, centroids = checkerboards(side), mirrored(side, k)
    expected = lowest_nearest(images, centroids)
    folder = make_shards(images)
    resident = ResidentImages(folder, load_manifest(folder), local_replicas())
    for entry in ALGORITHMS.values():
        algorithm = load(entry)(resident, k)
        algorithm.start()
        algorithm.assign(centroids.astype(np.float64))
        assert np.concatenate(resident.local(algorithm.clusters)).tolist() == expected
    block = Block([str(row) for row in range(len(images))], None, images)
    assert Assigner(centroids, "uint8")(block).assigned.clusters.tolist() == expected
    nearest = NearestCentroid(Model("", centroids, (side,), "uint8"))
    assert nearest(block).clusters.tolist() == expected
    _, signatures = build_model(centroids, (side,), "uint8")
    said = signatures["serving_default"](tf.constant(images))
    assert said["cluster"].numpy().tolist() == expected

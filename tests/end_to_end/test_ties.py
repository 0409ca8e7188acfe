"""Images that are equally near to several centroids have the lowest of them, whoever asks."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from job.kmeans import ALGORITHMS
from pipeline.nearest import NearestCentroid, read_model
from pipeline.shards.block import Block


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


def checkerboards() -> np.ndarray:
    """All images of 2 × 2 pixels of three levels."""
    return np.array(list(itertools.product((0, 51, 255), repeat=4)), np.uint8)


def single_pixels() -> np.ndarray:
    return np.arange(256, dtype=np.uint8)[:, None]


@pytest.mark.parametrize("make", [checkerboards, single_pixels])
@pytest.mark.parametrize("k", [3, 8])
def test_ties_go_to_the_lowest(fit, make_shards, make, k):
    images = make()
    # All orders of the same values, and steps that have no end in binary.
    initial = np.array(
        [[(row * 37 + 85 * place) % 256 for place in range(images.shape[1])] for row in range(k)]
    )
    shards = make_shards(images, num_shards=2)
    results = [
        fit(shards, k, init=np.sort(initial, axis=0) / 255, algorithm=algorithm, max_iterations=4)
        for algorithm in ALGORITHMS
    ]
    assert results[0].bits() == results[1].bits()
    result = results[0]
    expected = lowest_nearest(images, result.centroids)
    assert result.clusters.tolist() == expected
    block = Block([str(row) for row in range(len(images))], None, images)
    assert NearestCentroid(read_model(str(result.folder)))(block).clusters.tolist() == expected
    serve = tf.saved_model.load(str(result.folder / "model")).signatures["serving_default"]
    assert serve(images=tf.constant(images))["cluster"].numpy().tolist() == expected


def test_permuted_centroids_are_ties(fit, make_shards):
    """An image of one level is as far from every permutation of a centroid."""
    orders = np.array(list(itertools.permutations([7, 85, 100, 255])))
    images = np.concatenate([np.full((9, 4), np.arange(40, 49)[:, None]), orders]).astype(np.uint8)
    for rows in (orders, orders[::-1]):
        result = fit(make_shards(images), len(orders), init=rows / 255, max_iterations=1)
        assert result.history[0]["empty"] == 0
        expected = lowest_nearest(images, result.centroids)
        assert result.clusters.tolist() == expected

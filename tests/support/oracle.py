"""Lloyd's algorithm once more, slowly: integers for what decides, one image and pixel at a time."""

import math
from typing import NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """What `lloyd` ends with; centroids are float64 [k, d] in 0 … 1."""

    centroids: np.ndarray
    clusters: np.ndarray
    iterations: int
    changed: list[int]
    empty: list[int]


def lloyd(pixels: np.ndarray, initial: np.ndarray, rank: np.ndarray) -> Outcome:
    """Runs until nothing changes, from `initial` [k, d], on uint8 images [n, d].

    Args:
      rank: of each image, by which equally far ones are given to empty clusters.
    """
    (n, d), k = pixels.shape, len(initial)
    fraction = 2 ** math.floor(53 - math.log2(255 * d))  # centroids are multiples of 1 / fraction
    centroids = np.rint(initial * fraction) / fraction
    clusters, changed, empty = np.full(n, -1), [], []
    while True:
        before, clusters = clusters, nearest(pixels, centroids, fraction)
        changed.append(int((before != clusters).sum()))
        members = [list(np.flatnonzero(clusters == c)) for c in range(k)]
        empty.append(sum(not rows for rows in members))
        squared = np.square(pixels / 255 - centroids[clusters]).sum(axis=1)
        farthest = sorted(range(n), key=lambda row: (-squared[row], rank[row]))
        for cluster in range(k):
            if not members[cluster]:
                row = next(row for row in farthest if len(members[clusters[row]]) > 1)
                members[clusters[row]].remove(row)
                members[cluster].append(row)
                farthest.remove(row)
        sums = np.array([pixels[rows].sum(axis=0, dtype=np.int64) for rows in members])
        counts = np.array([[255 * len(rows)] for rows in members])
        moved, centroids = centroids, np.rint(sums / counts * fraction) / fraction
        if empty[-1] == 0 and (changed[-1] == 0 or (moved == centroids).all()):
            return Outcome(centroids, clusters, len(changed), changed, empty)


def nearest(pixels: np.ndarray, centroids: np.ndarray, fraction: int) -> np.ndarray:
    """The nearest centroid of each image, of equal ones the lowest, decided in integers."""
    rows = [[int(value * fraction) for value in centroid] for centroid in centroids]
    assert all(value * fraction == int(value * fraction) for value in centroids.ravel())
    clusters = []
    for image in pixels.tolist():
        scaled = [value * fraction for value in image]
        squared = [
            sum((x - 255 * c) ** 2 for x, c in zip(scaled, row, strict=True)) for row in rows
        ]
        clusters.append(squared.index(min(squared)))
    return np.array(clusters)

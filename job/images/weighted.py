"""Rows of an array that stand for several equal images each, or that have weights."""

import numpy as np

from job import hashing
from job.images.array import PREFIX, ArrayImages, Graphs
from job.kmeans.init import weighed
from pipeline.shards.ids import numbered_ids


class RepeatedImages(ArrayImages):
    """Implements `Images` as if each row were repeated, at 8 bytes a copy instead of its pixels.

    What is chosen by hash is chosen among the copies, which have the ids of the repeated array's
    rows. So a fit has the bits of a fit of that array.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        graphs: Graphs,
        origin: np.ndarray | None,
        copies: np.ndarray,
    ):
        """Takes an array as `ArrayImages` does, and how many images each row is: int64 [n], > 0."""
        self._all_copies = copies
        super().__init__(pixels, graphs, origin)
        self.copies = graphs.replicas.place([part.astype(np.float64) for part in self._copies])

    def _identify(self, shares: list[tuple[int, int]]) -> None:
        self._copies = [self._all_copies[start:stop] for start, stop in shares]
        ends = np.cumsum([0, *self._all_copies])
        ids = (numbered_ids(PREFIX, ends[start], ends[stop]) for start, stop in shares)
        self.digests = [hashing.digests(part) for part in ids]
        self._ends = [np.cumsum(part) for part in self._copies]
        self.num_images = int(ends[-1])

    def _by_image(self, values: list[np.ndarray]) -> list[np.ndarray]:
        return [np.repeat(part, own) for part, own in zip(values, self._copies, strict=True)]

    def _rows(self, replica: int, images: list[int]) -> list[int]:
        return np.searchsorted(self._ends[replica], images, side="right").tolist()


class WeightedImages(ArrayImages):
    """Implements `Images` with rows of different weights, which are whole numbers of any size."""

    def __init__(
        self,
        pixels: np.ndarray,
        graphs: Graphs,
        origin: np.ndarray | None,
        weights: np.ndarray,
    ):
        """Takes an array as `ArrayImages` does, and the weights, float64 [n], > 0."""
        self._all_weights = weights
        super().__init__(pixels, graphs, origin)
        assert self.weights is not None
        self.copies = graphs.replicas.place(self.weights)

    def total(self, values: list[np.ndarray]) -> float:
        return super().total(weighed(self, values))

    def _identify(self, shares: list[tuple[int, int]]) -> None:
        self.weights = [self._all_weights[start:stop].copy() for start, stop in shares]
        self.num_images = int(self._all_weights.sum())

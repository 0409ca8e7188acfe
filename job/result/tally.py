"""Sums over assigned images, from which all metrics are computed."""

from typing import NamedTuple

import numpy as np

from job.kmeans.exact_sum import add_to_clusters, exact_weighted_sum, no_terms, rounded
from job.kmeans.sums import ClusterSums, inertia
from job.result.assigner import Measured
from pipeline.shards.pixel_scale import Units


class Tally(NamedTuple):
    """Sums over assigned images; `merge` is associative and commutative.

    Every field is a sum, so merging, saving and loading treat all fields alike.

    Attributes:
      sums: sums of pixels by cluster, each times its image's weight, float64 [k, d]; [k, 0] for
        float32 images.
      counts: numbers of images by cluster, int64 [k].
      weights: sums of the images' weights by cluster, in their unit, int64 [k]; the numbers of
        images where all count once.
      squared_norms: Σ weight · ‖x‖², pixels²: an `exact_sum`; 0 for float32 images.
      squared_distances: Σ weight · squared distance to the own centroid, published units²: an
        `exact_sum`.
      distances: Σ distance to the own centroid by cluster, published units, float64 [k].
      silhouettes: Σ simplified silhouette of the images, float64.
      contingency: numbers of images by cluster and label, int64 [k, labels], of those that
        have one; no columns in an unlabelled set.
    """

    sums: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    squared_norms: np.ndarray
    squared_distances: np.ndarray
    distances: np.ndarray
    silhouettes: np.ndarray
    contingency: np.ndarray

    @classmethod
    def zero(cls, num_clusters: int, num_features: int, num_labels: int) -> "Tally":
        """Returns the tally of no image; `num_features` is 0 for float32 images."""
        return cls(
            sums=np.zeros((num_clusters, num_features)),
            counts=np.zeros(num_clusters, np.int64),
            weights=np.zeros(num_clusters, np.int64),
            squared_norms=no_terms(),
            squared_distances=no_terms(),
            distances=np.zeros(num_clusters),
            silhouettes=np.zeros(()),
            contingency=np.zeros((num_clusters, num_labels), np.int64),
        )

    def merge(self, other: "Tally") -> "Tally":
        """Returns the tally of both sets of images.

        For uint8 images it is exact, apart from rounding in `distances` and `silhouettes`.
        """
        return Tally(*(np.add(mine, its) for mine, its in zip(self, other, strict=True)))

    def add(self, measured: Measured, weights: np.ndarray | None = None) -> "Tally":
        """Adds the images of one more block to this tally, and returns it.

        Args:
          weights: of the images, whole multiples of a unit, float64 [B]; None: all count once.
        """
        assigned = measured.assigned
        block, clusters = assigned.block, assigned.clusters
        k = len(self.counts)
        self.counts[:] += np.bincount(clusters, minlength=k)
        self.weights[:] += np.bincount(clusters, weights, k).astype(np.int64)
        self.squared_distances[:] += exact_weighted_sum(assigned.squared_distances, weights)
        self.distances[:] += np.bincount(clusters, np.sqrt(assigned.squared_distances), minlength=k)
        self.silhouettes[...] += measured.silhouettes.sum()
        if block.labels is not None:
            known = block.labels >= 0
            np.add.at(self.contingency, (clusters[known], block.labels[known]), 1)
        if block.pixels.dtype == np.uint8:
            self.squared_norms[:] += exact_weighted_sum(measured.squared_norms, weights)
            add_to_clusters(self.sums, block.pixels, clusters, weights)
        return self

    def inertia(self, centroids: np.ndarray, units: Units) -> float:
        """Computes Σ weight · squared distance to the own centroids float64 [k, d].

        It is in published units², and in the unit of the weights.
        """
        if units.step:
            total = ClusterSums(self.sums, self.weights)
            return inertia(rounded(self.squared_norms), total, centroids, units)
        return rounded(self.squared_distances)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all fields by name, to be saved."""
        return self._asdict()

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Tally":
        """Loads the tally that `arrays` saved; other names are ignored."""
        return cls(*(arrays[name] for name in cls._fields))

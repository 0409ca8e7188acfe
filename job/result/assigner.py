"""What is known of images once they have their nearest published centroid."""

from typing import Any

import numpy as np
import tensorflow as tf

from job import hashing
from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import between, by_block, stored, take
from job.kmeans.precision import FLOAT32, Precision
from job.kmeans.scores import (
    Scorer,
    exact_scores,
    exact_weights,
    first_lowest,
    lowest_two,
    nearest_centroids,
    rounded_weights,
    scorer_of,
    squared_distances,
)
from job.kmeans.sums import ClusterSums
from job.result import metrics
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.pixel_scale import Units

# Images of each cluster that the report shows.
EXAMPLES_SHOWN = {"nearest": 5, "farthest": 5, "random": 25}


class Assigner:
    """Finds the nearest published centroid of images, block by block, on one device."""

    def __init__(self, centroids: np.ndarray, units: Units, precision: Precision = FLOAT32):
        """Takes centroids float32 [k, d] in published units, and how the device's products round.

        By default they are those of a CPU.
        """
        # float32 values of 0 … 1 are on the grid: theirs is coarser, or they were on it before.
        scorer = scorer_of(centroids.astype(np.float64), units, precision)

        @tf.function(autograph=False)
        def assign(images, squared_norm):
            def squared_to(clusters):
                return squared_distances(images, squared_norm, clusters, scorer, units)

            clusters = nearest_centroids(images, squared_norm, scorer, units).clusters
            squared = squared_to(clusters)
            if len(centroids) == 1:
                return clusters, squared, squared
            seconds = _second_nearest(images, squared_norm, clusters, scorer)
            return clusters, squared, squared_to(seconds)

        self._graph = assign
        self._assign: Any = None

    def __call__(self, block: Block) -> tuple[Assigned, np.ndarray]:
        """The nearest centroid of each image of `block`, and their silhouettes; float64 [B]."""
        norms = squared_pixel_norms(block.pixels)
        images = stored(block.pixels)
        if self._assign is None:
            # One trace for any number of images: the last block of a shard is often a smaller one.
            rows = tf.TensorSpec([None, images.shape[1]], images.dtype)
            norm_of_each = tf.TensorSpec([None], tf.float64)
            self._assign = self._graph.get_concrete_function(rows, norm_of_each)
        clusters, squared, seconds = self._assign(images, norms)
        silhouettes = metrics.silhouettes(np.sqrt(squared), np.sqrt(seconds))
        return Assigned(block, clusters.numpy().astype(np.int32), squared.numpy()), silhouettes


def _second_nearest(
    images: tf.Tensor, squared_norm: tf.Tensor, clusters: tf.Tensor, scorer: Scorer
) -> tf.Tensor:
    """The nearest centroid of each image beside that of its cluster; int64 [n].

    As in `nearest_centroids`, what float32 cannot tell apart is decided in float64.
    """
    weights, bias = rounded_weights(scorer, images)
    wide_weights = exact_weights(scorer, images)

    def without_own(scores, own):
        hidden = tf.one_hot(own, len(scorer.bias), np.inf, 0.0, dtype=scores.dtype)
        return scores + hidden

    def nearest_others(start, stop):
        pixels = tf.cast(between(images, start, stop), tf.float32)
        scores = tf.linalg.matmul(pixels, weights, transpose_b=True) + bias
        seconds, lowest, third = lowest_two(without_own(scores, clusters[start:stop]))
        return [seconds, third - lowest]

    width, dtypes = images.shape[1], [tf.int64, tf.float32]
    seconds, gaps = by_block(nearest_others, tf.size(clusters), width, dtypes)
    norm = tf.cast(tf.sqrt(squared_norm), tf.float32)
    near_tie = tf.where(gaps <= scorer.margin[0] * norm + scorer.margin[1])[:, 0]

    def decide(start, stop):
        index = near_tie[start:stop]
        scores = exact_scores(take(images, index), wide_weights, scorer.bias)
        return [first_lowest(without_own(scores, tf.gather(clusters, index)))]

    (decided,) = by_block(decide, tf.size(near_tie), width, [tf.int64])
    return tf.tensor_scatter_nd_update(seconds, near_tie[:, None], decided)


class Tally:
    """What the assignments add up to; `merge` is associative and commutative.

    Attributes:
      sums: pixel sums and counts by cluster.
      squared_norm_total: Σ‖x‖², pixels².
      distances: Σ distance by cluster, float64 [k].
      silhouettes: Σ of the images' simplified silhouettes.
      contingency: images by cluster and label, int64 [k, labels]; no columns if unlabelled.
    """

    def __init__(self, num_clusters: int, num_features: int, num_labels: int):
        self.sums = ClusterSums.zero(num_clusters, num_features)
        self.squared_norm_total = 0.0
        self.distances = np.zeros(num_clusters)
        self.silhouettes = 0.0
        self.contingency = np.zeros((num_clusters, num_labels), np.int64)

    def add(self, assigned: Assigned, silhouettes: np.ndarray) -> None:
        """Adds the images of one block."""
        block, clusters, squared = assigned
        k = len(self.distances)
        counts = np.bincount(clusters, minlength=k)
        sums = np.zeros_like(self.sums.sums)
        order = np.argsort(clusters, kind="stable")
        present = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts)])[present]
        wide = np.uint64 if block.pixels.dtype == np.uint8 else np.float64
        sums[present] = np.add.reduceat(block.pixels[order], starts, axis=0, dtype=wide)
        self.sums = self.sums.merge(ClusterSums(sums, counts))
        self.squared_norm_total += float(squared_pixel_norms(block.pixels).sum())
        self.distances += np.bincount(clusters, np.sqrt(squared), minlength=k)
        self.silhouettes += float(silhouettes.sum())
        if block.labels is not None:
            np.add.at(self.contingency, (clusters, block.labels), 1)

    def merge(self, other: "Tally") -> "Tally":
        """The tally of both sets of images: exact for uint8 but for the rounding of distances."""
        k, num_labels = self.contingency.shape
        merged = Tally(k, self.sums.sums.shape[1], num_labels)
        merged.sums = self.sums.merge(other.sums)
        merged.squared_norm_total = self.squared_norm_total + other.squared_norm_total
        merged.distances = self.distances + other.distances
        merged.silhouettes = self.silhouettes + other.silhouettes
        merged.contingency = self.contingency + other.contingency
        return merged

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a file."""
        return {
            "sums": self.sums.sums,
            "counts": self.sums.counts,
            "squared_norm_total": np.array(self.squared_norm_total),
            "distances": self.distances,
            "silhouettes": np.array(self.silhouettes),
            "contingency": self.contingency,
        }

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "Tally":
        """The tally whose `arrays` these are."""
        k, num_features = arrays["sums"].shape
        tally = cls(k, num_features, arrays["contingency"].shape[1])
        tally.sums = ClusterSums(arrays["sums"], arrays["counts"])
        tally.squared_norm_total = float(arrays["squared_norm_total"])
        tally.silhouettes = float(arrays["silhouettes"])
        tally.distances, tally.contingency = arrays["distances"], arrays["contingency"]
        return tally


class Examples:
    """The nearest, the farthest and some random images of each cluster.

    Whatever the order in which images are added; `merge` is associative and commutative.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def add(self, assigned: Assigned) -> None:
        """Takes the images of a block that belong among the examples."""
        block, clusters, squared = assigned
        hashes = hashing.hashes(hashing.digests(block.ids), self._seed, "examples")
        labels = block.labels if block.labels is not None else np.full(len(clusters), -1)
        rows = {
            "pixels": block.pixels,
            "ids": np.array(block.ids),
            "labels": labels,
            "clusters": clusters,
            "distances": np.sqrt(squared),
            "hashes": hashes,
        }
        for kind, count in EXAMPLES_SHOWN.items():
            # Against what is kept only the best of this block, which are few, are compared.
            self._keep(kind, _first_by_cluster(rows, kind, count))

    def _keep(self, kind: str, best: dict[str, np.ndarray]) -> None:
        if kind in self._kept:
            both = {n: np.concatenate([self._kept[kind][n], best[n]]) for n in best}
            best = _first_by_cluster(both, kind, EXAMPLES_SHOWN[kind])
        self._kept[kind] = best

    def merge(self, other: "Examples") -> "Examples":
        """The examples of both sets of images."""
        merged = Examples(self._seed)
        for part in (self, other):
            for kind, rows in part._kept.items():
                merged._keep(kind, rows)
        return merged

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a file."""
        return {f"{kind}/{n}": v for kind, rows in self._kept.items() for n, v in rows.items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], seed: int) -> "Examples":
        """The examples whose `arrays` these are."""
        examples = cls(seed)
        for name, values in arrays.items():
            kind, _, column = name.partition("/")
            examples._kept.setdefault(kind, {})[column] = values
        return examples

    def columns(self) -> dict[str, np.ndarray]:
        """Every example with its kind, as arrays of equal length."""
        parts = [
            {**rows, "kinds": np.full(len(rows["ids"]), kind)} for kind, rows in self._kept.items()
        ]
        names = [name for name in parts[0] if name != "hashes"]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        columns["distances"] = columns["distances"].astype(np.float32)
        return columns


def _first_by_cluster(rows: dict[str, np.ndarray], kind: str, count: int) -> dict[str, np.ndarray]:
    """Of every cluster the `count` rows that come first for `kind`, in that order."""
    signs = {"nearest": 1.0, "farthest": -1.0, "random": 0.0}
    order = np.lexsort([rows["hashes"], signs[kind] * rows["distances"], rows["clusters"]])
    clusters = rows["clusters"][order]
    rank = np.arange(len(order)) - np.searchsorted(clusters, clusters)
    chosen = order[rank < count]
    return {name: values[chosen] for name, values in rows.items()}

"""Hamerly's algorithm without a screen: bounds tell in which groups of centroids to look again.

Centroids are divided into groups of near ones. Every image keeps for each group a bound below the
gap by which the group's nearest centroid, other than its own one, is farther than its own. Gaps
shrink as centroids move. An image in doubt is compared with the groups whose gap may be gone
(Ding et al.: Yinyang k-means, ICML 2015). Where its own centroid stays the nearest, that is all;
else, or where most groups are open, it is scored in full.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job.images.protocol import Images
from job.kmeans.blocks import images_per_block, take
from job.kmeans.scores import (
    Assignment,
    Scorer,
    gaps_of,
    grouped_weights,
    margins_of,
    nearest_centroids,
    scorer_of,
)
from job.kmeans.sums import Change, change_of, distances_moved, moved_sums
from pipeline.shards.pixel_scale import Units

# An image with more than this share of its groups open is scored in full.
MOST_OPEN = 0.5
# Where a larger share of the images is in doubt, all are scored: they need not be gathered.
MOST_IN_DOUBT = 0.75
POWER_ITERATIONS = 4


class Groups(NamedTuple):
    """Centroids in groups of s places.

    Attributes:
      members: the centroid at each place, int64 [G, s]; k where a place is empty.
      places: g s + the place of each centroid in its group g, int64 [k].
    """

    members: np.ndarray
    places: np.ndarray


class GroupedCentroids:
    """Implements `Algorithm` in 8 bytes an image, and 4 for each group of centroids.

    Attributes:
      bounds: of all images: clusters, and lower bounds of their gaps.
    """

    def __init__(self, images: Images, k: int, num_groups: int):
        """Takes the number of groups, at most k / 2."""
        self._images, self._num_groups = images, num_groups
        self._assign = images.compile(_assign, images.units)
        self.start()

    @property
    def clusters(self) -> Any:
        return self.bounds.clusters

    def start(self) -> None:
        self._before: np.ndarray | None = None
        self.bounds = self._images.state(functools.partial(_unknown, self._num_groups))

    def resume(self, clusters: Any, centroids: np.ndarray) -> None:
        """Continues from clusters that another algorithm assigned by centroids [k, d]."""
        self.start()
        self.bounds = self.bounds._replace(clusters=clusters)
        self._before, self._groups = centroids, groups_of(centroids, self._num_groups)

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        if self._before is None:
            self._before, self._groups = centroids, groups_of(centroids, self._num_groups)
        losses = losses_of(centroids, self._before, self._groups)
        self._before = centroids
        self.bounds, totals = self._assign(self.bounds, (scorer, self._groups, losses))
        return change_of(totals)


def groups_of(centroids: np.ndarray, count: int) -> Groups:
    """Divides centroids [k, d] into `count` groups of near ones, as large as each other.

    Any division gives the same assignments.
    """
    k = len(centroids)
    parts = _halved(centroids, np.arange(k), count)
    members = np.full((count, -(-k // count)), k)
    for row, part in zip(members, parts, strict=True):
        row[: len(part)] = part
    places = np.empty(k + 1, np.int64)
    places[members.ravel()] = np.arange(members.size)
    return Groups(members, places[:k])


def _halved(centroids: np.ndarray, chosen: np.ndarray, count: int) -> list[np.ndarray]:
    """Cuts the `chosen` centroids in two along their leading direction, and again: into `count`."""
    if count == 1:
        return [chosen]
    left = centroids[chosen] - centroids[chosen].mean(axis=0)
    along = left[np.square(left).sum(axis=1).argmax()]
    for _ in range(POWER_ITERATIONS):
        along = (left @ along) @ left
        along /= max(np.sqrt(along @ along), np.finfo(float).tiny)
    order = chosen[np.argsort(left @ along, kind="stable")]
    first = count // 2
    cut = len(order) * first // count
    return _halved(centroids, order[:cut], first) + _halved(centroids, order[cut:], count - first)


def losses_of(centroids: np.ndarray, before: np.ndarray, groups: Groups) -> np.ndarray:
    """Computes how much the gaps of a cluster's images may have shrunk, rounded up; float32 [k, G].

    That is how far the cluster's centroid moved, and the farthest move of any other in the group.
    """
    moves = distances_moved(centroids, before)
    of_groups = np.append(moves, 0.0)[groups.members]  # [G, s]
    others = np.tile(of_groups.max(axis=1), (len(moves), 1))
    fastest = groups.members[np.arange(len(others[0])), of_groups.argmax(axis=1)]
    second = np.sort(of_groups, axis=1)[:, -2] if of_groups.shape[1] > 1 else 0.0
    others[fastest, np.arange(len(fastest))] = second
    # A little more, since float32 rounds the gap less the loss, and a gap is at most ‖c‖ + ‖c'‖.
    largest = np.sqrt(np.einsum("kd,kd->k", centroids, centroids).max())
    return ((moves[:, None] + others) * (1 + 2.0**-20) + 2.0**-22 * largest).astype(np.float32)


def _unknown(num_groups: int, count: int) -> Assignment:
    """Makes the bounds of images before their first assignment."""
    return Assignment(np.full(count, -1, np.int64), np.zeros((count, num_groups), np.float32))


def _assign(images, squared_norm, bounds, shared, units):
    """A step: assigns the images whose gaps may be gone; its partial sums are `moved_sums`."""
    scorer, groups, losses = shared
    clusters = bounds.clusters
    # tf.gather takes twice as long for single numbers.
    gaps = bounds.gaps - tf.gather_nd(losses, tf.maximum(clusters, 0)[:, None])
    if groups.members.shape[0] > 1:
        gaps = _compared(images, squared_norm, Assignment(clusters, gaps), scorer, groups, units)
    in_doubt = tf.reduce_any(gaps <= 0, axis=1)
    share = tf.reduce_mean(tf.cast(in_doubt, tf.float32))
    left = tf.where(in_doubt | (share > MOST_IN_DOUBT))[:, 0]
    found = nearest_centroids(images, squared_norm, scorer, units, left, groups.members)
    before = tf.gather(clusters, left)
    sums = moved_sums(images, before, found.clusters, scorer.centroids.shape, units, left)
    pairs = zip((clusters, gaps), found, strict=True)
    updated = (tf.tensor_scatter_nd_update(old, left[:, None], new) for old, new in pairs)
    return Assignment(*updated), list(sums)


def _compared(
    images: tf.Tensor,
    squared_norm: tf.Tensor,
    bounds: Assignment,
    scorer: Scorer,
    groups: Groups,
    units: Units,
) -> tf.Tensor:
    """Compares images in doubt with their open groups; returns gaps, anew where compared.

    A gap of 0 is left where the own centroid is not surely nearer than all of a group.
    """
    own_group = tf.gather(groups.places, tf.maximum(bounds.clusters, 0)) // groups.members.shape[1]
    pairs = _open_pairs(bounds, own_group)
    group, row = pairs[:, 0], pairs[:, 1]
    own, others = _scores_of_pairs(images, pairs, bounds.clusters, scorer, groups)
    # The own centroid is scored with its group, and the score then used for all groups.
    home = tf.where(tf.gather(own_group, row) == group)[:, 0]
    scores = tf.tensor_scatter_nd_update(
        tf.zeros_like(squared_norm, tf.float32),
        tf.gather(row, home)[:, None],
        tf.gather(own, home),
    )
    own, norms = tf.gather(scores, row), tf.gather(squared_norm, row)
    margins = margins_of(scorer, norms)
    found = gaps_of(norms, own + margins, others - own - margins, units)
    return tf.tensor_scatter_nd_update(bounds.gaps, tf.stack([row, group], axis=1), found)


def _open_pairs(bounds: Assignment, own_group: tf.Tensor) -> tf.Tensor:
    """Finds groups and images to compare, by group: those without a gap, and the own group.

    Returns:
      int64 [p, 2].
    """
    is_open = bounds.gaps <= 0
    num_groups = bounds.gaps.shape[1]
    is_own = tf.one_hot(own_group, num_groups, True, False)
    is_open = is_open | (is_own & tf.reduce_any(is_open, axis=1, keepdims=True))
    share = tf.reduce_mean(tf.cast(is_open, tf.float32), axis=1, keepdims=True)
    return tf.where(tf.transpose(is_open & (share <= MOST_OPEN)))


def _scores_of_pairs(
    images: tf.Tensor, pairs: tf.Tensor, clusters: tf.Tensor, scorer: Scorer, groups: Groups
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores images against groups.

    Args:
      pairs: groups and images, by group, int64 [p, 2].
      clusters: of all images, int64 [n].

    Returns:
      The score of the own centroid, where it is in the group, and the lowest other score; float32
      [p] each.
    """
    count, width = groups.members.shape
    weights, bias = grouped_weights(scorer, images, groups.members)
    weights, bias = tf.reshape(weights, [count, width, -1]), tf.reshape(bias, [count, width])
    size = images_per_block(images.shape[1])
    # In float64, since TensorFlow has no GPU kernel for the segment sum of integers.
    counts = tf.math.unsorted_segment_sum(tf.ones_like(pairs[:, 0], tf.float64), pairs[:, 0], count)
    ends = tf.cast(tf.cumsum(counts), tf.int64)
    # Without any pair there is one block, of none: TensorArray.concat fails without any.
    group = tf.concat([pairs[:, 0], tf.zeros([1], tf.int64)], axis=0)

    def block(start, number, own, others):
        stop = tf.minimum(start + size, ends[group[start]])
        row = pairs[start:stop, 1]
        pixels = tf.cast(take(images, row), tf.float32)
        scores = tf.linalg.matmul(pixels, weights[group[start]], transpose_b=True)
        scores += bias[group[start]]
        place = tf.gather(groups.places, tf.gather(clusters, row)) - group[start] * width
        # Adding infinity hides the own centroid: see lowest.lowest_two.
        hidden = tf.one_hot(place, width, np.float32(np.inf), 0.0)
        mine = tf.reduce_sum(tf.where(hidden > 0, scores, 0.0), axis=1)
        lowest = tf.reduce_min(scores + hidden, axis=1)
        return stop, number + 1, own.write(number, mine), others.write(number, lowest)

    arrays = [
        tf.TensorArray(tf.float32, 1, dynamic_size=True, infer_shape=False, element_shape=[None])
        for _ in range(2)
    ]
    _, _, *found = tf.while_loop(
        lambda start, number, *_: (start < tf.size(pairs, tf.int64) // 2) | (number < 1),
        block,
        (tf.constant(0, tf.int64), 0, *arrays),
        parallel_iterations=1,
    )
    return tuple(array.concat() for array in found)

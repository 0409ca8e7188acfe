"""Lloyd's assignments with less work: a bound per image, then a screen in few dimensions.

1. One number an image, a lower bound of how much farther its second nearest centroid is than its
   own, shrinks as centroids move; while it is positive the image is not looked at (Hamerly: Making
   k-means even faster, SDM 2010, with the difference of his two bounds).
2. Images in doubt are screened: a centroid whose upper bound is below the lower bounds of all
   others is the nearest. V spans the centroids before the images, so little is left of them, and
   most doubts end here. Many centroids do not fit into V: see `rivals`.
3. What is still in doubt is assigned as Lloyd's algorithm does.

Every bound carries a margin for float32, so that the assignments are the same bits as Lloyd's.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job.config import FitConfig
from job.images.protocol import Images
from job.kmeans import rivals
from job.kmeans.blocks import by_rows
from job.kmeans.graphs import traced
from job.kmeans.lloyd import Change, change
from job.kmeans.precision import FLOAT32_ROUNDING
from job.kmeans.rivals import IMAGE_COST
from job.kmeans.scores import Assignment, Scorer, gap_of, nearest_centroids, nearest_two, scorer_of
from job.kmeans.screen import (
    Basis,
    Screen,
    basis_of,
    block_rows,
    leading,
    norms,
    project,
    screen_of,
)
from job.kmeans.sums import moved_sums
from pipeline.shards.pixel_scale import Units

# Columns of V for few, some and many centroids: beyond the span of few, V has the images' leading
# directions, in which they move; that of many is never whole. Two more columns fill vector
# registers.
FEW_COLUMNS, SOME_COLUMNS, MANY_COLUMNS = 46, 110, 78
# Where memory is left for fewer, a screen is worth less than the pass that makes it.
LEAST_COLUMNS = 16
# From so many centroids on, distances to a few cost less than to all.
MANY_CENTROIDS = 200
# A screen that leaves more than this share of all images in doubt costs more than it saves.
WORTHWHILE = 0.6

_basis_of = traced(tf.function(basis_of, autograph=False))


class Gaps(NamedTuple):
    """What an image carries from one assignment to the next.

    Attributes:
      clusters: int64 [n].
      gaps: lower bounds of (distance to the second nearest − to the own centroid), float32 [n].
    """

    clusters: tf.Tensor
    gaps: tf.Tensor


class Hamerly:
    """Bounds and a screen: 12 or 16, and 4 (d' + 2) bytes an image, d' ≤ 110 and at most d / 4."""

    def __init__(self, images: Images, config: FitConfig):
        self._images = images
        many = config.k >= MANY_CENTROIDS
        wanted = SOME_COLUMNS if 2 * config.k > FEW_COLUMNS else FEW_COLUMNS
        wanted = MANY_COLUMNS if many else wanted
        columns = min(wanted, images.num_features // 4, images.spare_row_bytes // 4 - 2)
        narrow = columns < min(LEAST_COLUMNS, images.num_features // 4)
        self._columns = 0 if narrow else columns  # 0: no screen
        self._many = many and self._columns > 0
        # In images scored in full. A screen is renewed when it has lost as much, against what it
        # was when fresh, as a renewal costs.
        self._cost_of_screen = images.num_images * (columns + IMAGE_COST) / (config.k + IMAGE_COST)
        known = rivals.known if self._many else _known
        self._all = images.compile(_assign_all, images.units, known)
        self._project = images.compile(project, images.units)
        if self._many:
            self._guess = images.compile(rivals.guess, images.units)
        step = rivals.assign_in_doubt if self._many else _assign_in_doubt
        self._step = images.compile(step, images.units)
        # In which V lies beyond the span of centroids, if that is smaller.
        self._directions: Any = _noise(images.num_features, self._columns)
        self.start()

    @property
    def clusters(self) -> Any:
        return self.bounds.clusters

    def start(self) -> None:
        self._basis: Basis | None = None
        self._rows: Any = ()  # of the screen: z, ‖r‖, 1; float32 [n, d' + 2]
        # In images scored in full: what a fresh screen would have saved, and has to save; of those
        # that are screened, the share that a fresh one costs.
        self._loss, self._price, self._fresh = 0.0, self._cost_of_screen, None
        self._before: np.ndarray | None = None
        self.bounds = self._images.state(rivals.unknown if self._many else _unknown)

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = scorer_of(centroids, self._images.units, self._images.precision)
        first = self._many and self._before is None
        if self._columns and (first or self._loss > self._price):
            self._renew(centroids)
        if first:
            state, guessed = self._guess((self.bounds, self._rows), (scorer, self._basis))
            self.bounds, self._rows = state
            found = self._assign_in_doubt(centroids, scorer)
            sums = change(guessed).sums.merge(found.sums)
            found = Change(sums, self._images.num_images)
        elif self._before is None or (self._columns and self._basis is None):
            # Most images are in doubt: no need for a graph that picks them.
            probes = _noise(self._images.num_features, self._columns).astype(np.float32)
            self.bounds, outcome = self._all(self.bounds, (scorer, probes))
            *totals, self._directions = outcome
            self._loss += self._images.num_images
            found = change(totals)
        else:
            found = self._assign_in_doubt(centroids, scorer)
        self._before = centroids
        return found

    def _assign_in_doubt(self, centroids: np.ndarray, scorer: Scorer) -> Change:
        before = centroids if self._before is None else self._before
        moves = (rivals.moves_of if self._many else losses_of)(centroids, before)
        shared = (scorer, moves, self._basis)
        (self.bounds, self._rows), outcome = self._step((self.bounds, self._rows), shared)
        *totals, screened, cost = outcome
        share = cost / max(screened, 1)
        self._fresh = share if self._fresh is None else self._fresh
        self._loss += max(0.0, share - self._fresh) * screened
        if cost > WORTHWHILE * self._images.num_images:
            # Here screens may never be worth it: the next try comes later.
            self._basis, self._rows, self._loss = None, (), 0.0
            self._price *= 2
        return change(totals)

    def _renew(self, centroids: np.ndarray) -> None:
        """Projects all images into a basis for the next iterations."""
        start = _noise(*self._directions.shape)
        before = centroids if self._before is None else self._before
        self._basis = _basis_of(centroids, before, start, self._directions)
        self._rows = ()  # their memory is for the new ones
        self._rows, _ = self._project((), self._basis)
        self._loss, self._fresh = 0.0, None


def _noise(num_features: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_features, columns))


def _unknown(count: int) -> Gaps:
    return Gaps(np.full(count, -1, np.int64), np.zeros(count, np.float32))


def _known(nearest: Assignment) -> Gaps:
    return Gaps(*nearest)


def _assign_all(images, squared_norm, state, shared, units, known):
    scorer, probes = shared
    nearest = nearest_centroids(images, squared_norm, scorer, units)
    sums = moved_sums(images, state.clusters, nearest.clusters, scorer.centroids.shape)
    return known(nearest), [*sums, leading(images, probes)]


def _assign_in_doubt(images, squared_norm, state, shared, units):
    state, rows = state
    scorer, losses, basis = shared
    # tf.gather takes twice as long for scalars.
    state = state._replace(gaps=state.gaps - tf.gather_nd(losses, state.clusters[:, None]))
    doubt = tf.where(state.gaps <= 0)[:, 0]
    before = tf.gather(state.clusters, doubt)
    if basis is None:
        found = Gaps(*nearest_centroids(images, squared_norm, scorer, units, doubt))
        left = doubt
    else:
        screen = screen_of(scorer, basis, units)
        found = _screened(rows, squared_norm, doubt, screen, units)
        left = tf.where(found.gaps <= 0)[:, 0]
        nearest = nearest_centroids(images, squared_norm, scorer, units, tf.gather(doubt, left))
        found = _updated(found, left, Gaps(*nearest))
    sums = moved_sums(images, before, found.clusters, scorer.centroids.shape, doubt)
    counts = [tf.cast(tf.size(part), tf.float64) for part in (doubt, left)]
    return (_updated(state, doubt, found), rows), [*sums, *counts]


def _updated(state: Gaps, rows: tf.Tensor, found: Gaps) -> Gaps:
    """The state with what was found for the images in `rows`."""
    pairs = zip(state, found, strict=True)
    return Gaps(*(tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in pairs))


def _screened(
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    screen: Screen,
    units: Units,
) -> Gaps:
    """The images in `doubt` as far as the screen can tell: gaps are 0 where it cannot."""

    def block(start, stop):
        index = doubt[start:stop]
        row = tf.gather(rows, index)
        clusters, lowest, others = nearest_two(row, screen.weights)
        upper = lowest + tf.gather(screen.widths, clusters) * row[:, -2]
        norm = norms(squared_norm, index, units)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        return [clusters, _gaps(norm, upper, others, margin)]

    dtypes = [tf.int64, tf.float32]
    return Gaps(*by_rows(block, tf.size(doubt), block_rows(screen), dtypes))


def _gaps(norm: tf.Tensor, upper: tf.Tensor, others: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Lower bounds of gaps from bounds of ‖y − c‖² − ‖y‖² for the nearest and all others."""
    slack = margin + 4 * FLOAT32_ROUNDING * tf.square(norm)
    distance = tf.maximum(tf.square(norm) + upper + slack, 0.0)
    return gap_of(distance, tf.maximum(others - upper - margin, 0.0))


def losses_of(centroids: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How much the gap of an image of each cluster may have shrunk, rounded up; float32 [k].

    By how far its own centroid moved, and that rival which moved farthest.
    """
    moves = np.sqrt(np.square(centroids - before).sum(axis=1))
    order = np.argsort(moves)
    others = np.full(len(moves), moves[order[-1]])
    others[order[-1]] = moves[order[-2]] if len(moves) > 1 else 0.0
    # A little more, for the float32 subtraction from the gap, which is at most ‖c‖ + ‖c'‖.
    largest = np.sqrt(np.einsum("kd,kd->k", centroids, centroids).max())
    return ((moves + others) * (1 + 2.0**-20) + 2.0**-22 * largest).astype(np.float32)

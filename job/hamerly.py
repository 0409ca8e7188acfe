"""Lloyd's assignments with less work: a bound per image, then a screen in few dimensions.

1. One number an image, a lower bound of how much farther its second nearest centroid is than its
   own, shrinks as centroids move; while it is positive the image is not looked at (Hamerly: Making
   k-means even faster, SDM 2010, with the difference of his two bounds).
2. Images in doubt are screened in the few dimensions in which the centroids lie. With V [d, d'] of
   orthonormal columns, y an image and c_j the centroids, both from an origin, z = Vᵀy, r what V
   leaves of y, and e_j what it leaves of c_j,

       ‖y − c_j‖² − ‖y‖² = ‖c_j‖² − 2 z·z_j − 2 r·e_j,    |r·e_j − r·m| ≤ ‖r‖ ‖e_j − m‖

   for any m, and r·m is the same for all j: comparing a bound of each rival with one of the own
   centroid is exact (compare block vectors: Bottesch, Bühler, Kächele, ICML 2016). Because V spans
   the centroids and not the images, little is left of them, and most doubts end here.
3. What is still in doubt is assigned as Lloyd's algorithm does.

Every bound carries a margin for float32, so that the assignments are the same bits as Lloyd's.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job import kmeans
from job.dataset import Images
from job.kmeans import FLOAT32_ROUNDING
from job.lloyd import Change, change

# Columns of the screen beside V: ‖r‖, 1 and ‖y‖².
EXTRA = 3
MAX_COLUMNS = 96
# Screens are renewed when the iterations since the first have grown by this factor.
RENEWAL = 2.5
SCREEN_BYTES = 4 << 20


class State(NamedTuple):
    """What an image carries: 8 bytes and its row of the screen.

    Attributes:
      clusters: int32 [n].
      gaps: lower bounds of (distance to the second nearest − to the own centroid), float32 [n].
      screen: z, ‖r‖, 1, ‖y‖²; float32 [n, d' + EXTRA].
    """

    clusters: tf.Tensor
    gaps: tf.Tensor
    screen: tf.Tensor


class Basis(NamedTuple):
    """How images are projected: published units, columns orthonormal.

    Attributes:
      origin: float64 [d].
      columns: float32 [d, d'].
      spread: ‖|V|‖₂, by which rounding in a projection may grow.
    """

    origin: np.ndarray
    columns: np.ndarray
    spread: float


class Screen(NamedTuple):
    """The centroids as the screen needs them.

    Attributes:
      weights: float32 [k, d' + EXTRA]; with an image's row they give a lower bound of
        ‖y − c_j‖² − ‖y‖², the same unknown r·m apart for all j.
      widths: 4 ‖e_j − m‖, float32 [k]; times ‖r‖ it makes an upper bound of the lower one.
      losses: how much the gap of an image of each cluster may have shrunk, float32 [k].
      rounding: float32 [3]: relative to ‖x‖, absolute, and ‖m‖.
    """

    weights: np.ndarray
    widths: np.ndarray
    losses: np.ndarray
    rounding: np.ndarray


class Hamerly:
    """Bounds and a screen: 8 + 4 (d' + 3) bytes an image, d' + 3 ≤ 96 and at most d / 4."""

    def __init__(self, images: Images, num_clusters: int):
        self._images, self._units = images, images.units
        self._columns = min(
            MAX_COLUMNS - EXTRA, 2 * (num_clusters - 1), images.num_features // 4 - EXTRA
        )
        self._step = images.compile(self._assign_in_doubt)
        self._first = images.compile(self._assign_all)
        self._project = images.compile(self._project_all)
        self._num_clusters = num_clusters
        self.start()

    @property
    def clusters(self) -> Any:
        return self._state.clusters

    def start(self) -> None:
        width = self._columns + EXTRA if self._columns > 0 else 0
        self._iteration, self._next_basis = 0, 1
        self._basis: Basis | None = None
        self._before: np.ndarray | None = None
        self._state = self._images.state(
            lambda count: State(
                np.full(count, -1, np.int32),
                np.zeros(count, np.float32),
                np.zeros((count, width), np.float32),
            )
        )

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = kmeans.scorer(centroids, self._units)
        if self._before is None:
            self._state, totals = self._first(self._state, scorer)
        else:
            if self._columns > 0 and self._iteration >= self._next_basis:
                self._renew_basis(centroids, self._before)
            screen = screen_of(centroids, self._before, self._basis)
            self._state, totals = self._step(self._state, (scorer, screen))
        self._before = centroids
        self._iteration += 1
        return change(totals)

    def _renew_basis(self, centroids: np.ndarray, before: np.ndarray) -> None:
        self._basis = basis_of(centroids, before, self._columns)
        origin = self._basis.origin.astype(np.float32)
        self._state, _ = self._project(self._state, (self._basis.columns, origin))
        self._next_basis = int(self._iteration * RENEWAL) + 1

    def _assign_all(self, images, squared_norm, state, scorer):
        nearest = kmeans.assign(images, squared_norm, scorer, self._units)
        sums = kmeans.moved_sums(images, state.clusters, nearest.clusters, self._num_clusters)
        return State(nearest.clusters, nearest.gaps, state.screen), list(sums)

    def _project_all(self, images, squared_norm, state, basis):
        columns, origin = basis
        scale = np.float32(self._units.scale)
        matrix = tf.concat([columns, origin[:, None]], axis=1) / scale
        shift = tf.linalg.matvec(columns, origin, transpose_a=True)

        def project(start, stop):
            pixels = tf.cast(images[start:stop], tf.float32)
            product = tf.linalg.matmul(pixels, matrix)  # [B, d' + 1]
            z = product[:, :-1] - shift
            norm = tf.cast(squared_norm[start:stop] / self._units.scale**2, tf.float32)
            own = tf.reduce_sum(tf.square(origin))
            squared = norm - 2 * product[:, -1] + own
            # ‖r‖² from above: the rounding of a difference of numbers as large as these.
            slack = 4 * FLOAT32_ROUNDING * (images.shape[1] + 8) * (norm + own)
            rest = tf.sqrt(tf.maximum(squared - tf.reduce_sum(tf.square(z), axis=1), 0.0) + slack)
            one = tf.ones_like(rest)
            return [tf.concat([z, tf.stack([rest, one, squared + slack], axis=1)], axis=1)]

        count, width = tf.size(squared_norm), state.screen.shape[1]
        (screen,) = kmeans.by_block(project, count, images.shape[1], [tf.float32], width)
        return State(state.clusters, state.gaps, screen), []

    def _assign_in_doubt(self, images, squared_norm, state, shared):
        scorer, screen = shared
        gaps = state.gaps - tf.gather(screen.losses, state.clusters)
        doubt = tf.where(gaps <= 0)[:, 0]
        if screen.weights.shape[1]:
            found = _screened(state, squared_norm, doubt, screen, self._units)
            gaps = tf.tensor_scatter_nd_update(gaps, doubt[:, None], found)
            doubt = tf.boolean_mask(doubt, found <= 0)
        nearest = kmeans.assign(images, squared_norm, scorer, self._units, doubt)
        clusters = tf.tensor_scatter_nd_update(state.clusters, doubt[:, None], nearest.clusters)
        gaps = tf.tensor_scatter_nd_update(gaps, doubt[:, None], nearest.gaps)
        sums = kmeans.moved_sums(images, state.clusters, clusters, self._num_clusters)
        return State(clusters, gaps, state.screen), list(sums)


def _screened(state: State, squared_norm, rows, screen: Screen, units: kmeans.Units) -> tf.Tensor:
    """Gaps of the images in `rows` as far as the screen can tell, 0 where it cannot; [m]."""
    widest = max(screen.weights.shape)
    size = int(np.clip(SCREEN_BYTES // (4 * widest), 256, 16_384))

    def block(start, stop):
        index = rows[start:stop]
        row = tf.gather(state.screen, index)
        clusters = tf.gather(state.clusters, index)
        bounds = tf.linalg.matmul(row, screen.weights, transpose_b=True)  # [B, k]
        own, others = kmeans.without(bounds, clusters)
        rest, squared = row[:, -3], row[:, -1]
        upper = own + tf.gather(screen.widths, clusters) * rest
        norm = tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        difference = tf.maximum(tf.reduce_min(others, axis=1) - upper - margin, 0.0)
        distance = tf.maximum(squared + upper + 2 * rest * screen.rounding[2], 0.0) + margin
        return [kmeans.gap_of(distance, difference)]

    (gaps,) = kmeans.by_rows(block, tf.size(rows), size, [tf.float32])
    return gaps


def basis_of(centroids: np.ndarray, before: np.ndarray, columns: int) -> Basis:
    """The leading directions of centroids [k, d] and of how they just moved."""
    origin = centroids.mean(axis=0)
    directions = np.concatenate([centroids - origin, centroids - before])
    right = np.linalg.svd(directions, full_matrices=False)[2]
    v = np.zeros((centroids.shape[1], columns), np.float32)
    v[:, : min(columns, len(right))] = right[:columns].T
    return Basis(origin, v, float(np.linalg.norm(np.abs(v), 2)))


def screen_of(centroids: np.ndarray, before: np.ndarray, basis: Basis | None) -> Screen:
    """What a screen needs of centroids [k, d] that were at `before`."""
    moves = np.sqrt(np.square(centroids - before).sum(axis=1))
    order = np.argsort(moves)
    rival = np.full(len(moves), moves[order[-1]])
    if len(moves) > 1:
        rival[order[-1]] = moves[order[-2]]
    # A little more, for the float32 subtraction from the gap.
    losses = ((moves + rival) * (1 + 2.0**-20) + 2.0**-20).astype(np.float32)
    if basis is None:
        return Screen(
            np.zeros((len(moves), 0), np.float32), losses, losses, np.zeros(3, np.float32)
        )
    d, columns = basis.columns.shape
    shifted = centroids - basis.origin
    z = shifted @ basis.columns
    left = shifted - z @ basis.columns.T
    middle = left.mean(axis=0)
    rho = np.sqrt(np.square(left - middle).sum(axis=1)) * (1 + 2.0**-20)
    squares = np.square(shifted).sum(axis=1)
    weights = np.stack([-2 * rho, squares, np.zeros_like(rho)], axis=1)
    weights = np.concatenate([-2 * z, weights], axis=1).astype(np.float32)
    # The rounding of z (a product over d) and of the screen's own product, for two of its values.
    gamma = FLOAT32_ROUNDING * 1.01
    largest = np.sqrt(np.square(z).sum(axis=1)).max()
    origin = np.sqrt(np.square(basis.origin).sum())
    of_z = 4 * gamma * (d + 4) * basis.spread * largest
    of_product = 4 * gamma * (columns + EXTRA + 4) * (largest + rho.max())
    relative = of_z + of_product
    absolute = relative * origin + 4 * gamma * (columns + 8) * squares.max()
    rest = np.sqrt(np.square(middle).sum())
    return Screen(
        weights,
        (4 * rho).astype(np.float32),
        losses,
        np.array([relative, absolute, rest], np.float32),
    )

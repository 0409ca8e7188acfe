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
from job.config import FitConfig
from job.dataset import Images
from job.kmeans import FLOAT32_ROUNDING
from job.lloyd import Change, change

# Columns of the screen beside V: ‖r‖, 1 and ‖y‖².
EXTRA = 3
MAX_COLUMNS = 96
# Screens are renewed when the iterations since the first have grown by this factor.
RENEWAL = 2.5
SUBSPACE_ITERATIONS = 3
# A screen that leaves more than this share in doubt costs more than it saves.
WORTHWHILE = 0.6
SCREEN_BYTES = 4 << 20


class State(NamedTuple):
    """What an image carries from one assignment to the next.

    Attributes:
      clusters: int64 [n].
      gaps: lower bounds of (distance to the second nearest − to the own centroid), float32 [n].
    """

    clusters: tf.Tensor
    gaps: tf.Tensor


class Basis(NamedTuple):
    """How images are projected: published units, columns orthonormal.

    Attributes:
      origin: float64 [d].
      columns: float32 [d, d'].
      spread: a bound of ‖|V|‖₂, by which rounding in a projection may grow.
    """

    origin: tf.Tensor
    columns: tf.Tensor
    spread: tf.Tensor


class Screen(NamedTuple):
    """The centroids as the screen needs them.

    Attributes:
      weights: float32 [k, d' + EXTRA]; with an image's row they give a lower bound of
        ‖y − c_j‖² − ‖y‖², the same unknown r·m apart for all j.
      widths: 4 ‖e_j − m‖, float32 [k]; times ‖r‖ it makes an upper bound of the lower one.
      rounding: float32 [3]: relative to ‖x‖, absolute, and ‖m‖.
    """

    weights: tf.Tensor
    widths: tf.Tensor
    rounding: tf.Tensor


class Hamerly:
    """Bounds and a screen: 12 + 4 (d' + 3) bytes an image, d' + 3 ≤ 96 and at most d / 4."""

    def __init__(self, images: Images, config: FitConfig):
        self._images = images
        width = min(MAX_COLUMNS, 2 * config.k - 2 + EXTRA, images.num_features // 4)
        width = min(width, images.spare_row_bytes // 4)
        self._width = width if width > EXTRA else 0  # 0: no screen
        self._first = images.compile(_assign_all, images.units)
        self._project = images.compile(_project, images.units)
        self._step = images.compile(_assign_in_doubt, images.units)
        self.start()

    @property
    def clusters(self) -> Any:
        return self._state.clusters

    def start(self) -> None:
        self._iteration, self._renewal = 0, 1
        self._basis: Basis | None = None
        self._rows: Any = ()  # of the screen: z, ‖r‖, 1, ‖y‖²; float32 [n, d' + EXTRA]
        self._before: np.ndarray | None = None
        self._state = self._images.state(
            lambda count: State(
                np.full(count, -1, np.int64),
                np.zeros(count, np.float32),
            )
        )

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = kmeans.scorer(centroids, self._images.units)
        if self._before is None:
            self._state, totals = self._first(self._state, scorer)
        else:
            if self._width and self._iteration == self._renewal:
                start = np.random.default_rng(0).standard_normal(
                    (self._images.num_features, self._width - EXTRA)
                )
                self._basis = basis_of(centroids, self._before, start)
                self._rows = ()  # their memory is for the new ones
                self._rows, _ = self._project((), self._basis)
                self._renewal = int(self._iteration * RENEWAL) + 1
            losses = losses_of(centroids, self._before)
            shared = (scorer, losses, centroids, self._basis)
            (self._state, self._rows), totals = self._step((self._state, self._rows), shared)
            *totals, screened, unresolved = totals
            if screened and unresolved > WORTHWHILE * screened:
                self._basis, self._rows = None, ()  # until the next basis
        self._before = centroids
        self._iteration += 1
        return change(totals)


def _assign_all(images, squared_norm, state, scorer, units):
    nearest = kmeans.assign(images, squared_norm, scorer, units)
    sums = kmeans.moved_sums(images, state.clusters, nearest.clusters, scorer.weights.shape)
    return State(*nearest), list(sums)


def _project(images, squared_norm, _, basis, units):
    """The rows of the screen, for a new basis."""
    origin = tf.cast(basis.origin, tf.float32)
    matrix = tf.concat([basis.columns, origin[:, None]], axis=1) / np.float32(units.scale)
    matrix = kmeans.widened(matrix, images, 0)
    shift = tf.linalg.matvec(basis.columns, origin, transpose_a=True)
    squared_origin = tf.reduce_sum(tf.square(origin))

    def rows(start, stop):
        product = tf.linalg.matmul(tf.cast(images[start:stop], tf.float32), matrix)  # [B, d' + 1]
        z = product[:, :-1] - shift
        norm = tf.cast(squared_norm[start:stop] / units.scale**2, tf.float32)
        squared = norm - 2 * product[:, -1] + squared_origin
        # ‖r‖² from above: the rounding of a difference of numbers as large as these.
        slack = 4 * FLOAT32_ROUNDING * (images.shape[1] + 8) * (norm + squared_origin)
        rest = tf.sqrt(tf.maximum(squared - tf.reduce_sum(tf.square(z), axis=1), 0.0) + slack)
        return tf.concat([z, tf.stack([rest, tf.ones_like(rest), squared + slack], 1)], axis=1)

    width = basis.columns.shape[1] + EXTRA
    return kmeans.fill_rows(rows, tf.size(squared_norm), images.shape[1], width), []


def _assign_in_doubt(images, squared_norm, state, shared, units):
    state, rows = state
    scorer, losses, centroids, basis = shared
    gaps = state.gaps - tf.gather(losses, state.clusters)
    doubt = tf.where(gaps <= 0)[:, 0]
    screened = tf.size(doubt) if basis is not None else 0
    if basis is not None:
        screen = screen_of(centroids, basis)
        found = _screened(rows, state.clusters, squared_norm, doubt, screen, units)
        gaps = tf.tensor_scatter_nd_update(gaps, doubt[:, None], found)
        doubt = tf.boolean_mask(doubt, found <= 0)
    nearest = kmeans.assign(images, squared_norm, scorer, units, doubt)
    clusters = tf.tensor_scatter_nd_update(state.clusters, doubt[:, None], nearest.clusters)
    gaps = tf.tensor_scatter_nd_update(gaps, doubt[:, None], nearest.gaps)
    sums = kmeans.moved_sums(images, state.clusters, clusters, scorer.weights.shape)
    counts = [tf.cast(count, tf.float64) for count in (screened, tf.size(doubt))]
    return (State(clusters, gaps), rows), [*sums, *counts]


def _screened(
    rows: tf.Tensor,
    clusters: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    screen: Screen,
    units: kmeans.Units,
) -> tf.Tensor:
    """Gaps of the images in `doubt` as far as the screen can tell, 0 where it cannot; [m]."""
    widest = max(screen.weights.shape)
    size = int(np.clip(SCREEN_BYTES // (4 * widest), 256, 16_384))

    def block(start, stop):
        index = doubt[start:stop]
        row, own_cluster = tf.gather(rows, index), tf.gather(clusters, index)
        bounds = tf.linalg.matmul(row, screen.weights, transpose_b=True)  # [B, k]
        own, others = kmeans.without(bounds, own_cluster)
        rest, squared = row[:, -3], row[:, -1]
        upper = own + tf.gather(screen.widths, own_cluster) * rest
        norm = tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        difference = tf.maximum(tf.reduce_min(others, axis=1) - upper - margin, 0.0)
        distance = tf.maximum(squared + upper + 2 * rest * screen.rounding[2], 0.0) + margin
        return [kmeans.gap_of(distance, difference)]

    (gaps,) = kmeans.by_rows(block, tf.size(doubt), size, [tf.float32])
    return gaps


@tf.function(reduce_retracing=True)
def basis_of(centroids: tf.Tensor, before: tf.Tensor, start: tf.Tensor) -> Basis:
    """The leading directions of centroids [k, d] and of how they just moved.

    Subspace iteration from `start` [d, d']: any orthonormal columns are right, leading ones are
    useful. In TensorFlow, whose threads and those of another library would wait for each other;
    on the host, where its QR decomposition takes and leaves its matrices even on a GPU.
    """
    with tf.device("CPU:0"):
        origin = tf.reduce_mean(centroids, axis=0)
        directions = tf.concat([centroids - origin, centroids - before], axis=0)  # [2k, d]
        v = start
        for _ in range(SUBSPACE_ITERATIONS):
            v, _ = tf.linalg.qr(tf.matmul(directions, tf.matmul(directions, v), transpose_a=True))
        v = tf.cast(v, tf.float32)
        # ‖|V|‖₂² ≤ ‖|V|‖₁ ‖|V|‖∞
        sums = [tf.reduce_max(tf.reduce_sum(tf.abs(v), axis)) for axis in (0, 1)]
        return Basis(origin, v, tf.sqrt(sums[0] * sums[1]))


def losses_of(centroids: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How much the gap of an image of each cluster may have shrunk, rounded up; float32 [k].

    By how far its own centroid moved, and that rival which moved farthest.
    """
    moves = np.sqrt(np.square(centroids - before).sum(axis=1))
    order = np.argsort(moves)
    rivals = np.full(len(moves), moves[order[-1]])
    rivals[order[-1]] = moves[order[-2]] if len(moves) > 1 else 0.0
    # A little more, for the float32 subtraction from the gap.
    return ((moves + rivals) * (1 + 2.0**-20) + 2.0**-20).astype(np.float32)


def screen_of(centroids: tf.Tensor, basis: Basis) -> Screen:
    """What a screen in `basis` needs of centroids float64 [k, d]."""
    d, columns = basis.columns.shape
    v = tf.cast(basis.columns, tf.float64)
    shifted = centroids - basis.origin
    z = tf.matmul(shifted, v)
    left = shifted - tf.matmul(z, v, transpose_b=True)
    middle = tf.reduce_mean(left, axis=0)
    rho = tf.norm(left - middle, axis=1) * (1 + 2.0**-20)
    squares = tf.reduce_sum(tf.square(shifted), axis=1)
    extra = tf.stack([-2 * rho, squares, tf.zeros_like(rho)], axis=1)
    # The rounding of z (a product over d) and of the screen's own product, for two of its values.
    gamma = 1.01 * FLOAT32_ROUNDING
    largest = tf.reduce_max(tf.norm(z, axis=1))
    of_z = 4 * gamma * (d + 4) * tf.cast(basis.spread, tf.float64) * largest
    of_product = 4 * gamma * (columns + EXTRA + 4) * (largest + tf.reduce_max(rho))
    relative = of_z + of_product
    absolute = relative * tf.norm(basis.origin) + 4 * gamma * (columns + 8) * tf.reduce_max(squares)
    return Screen(
        tf.cast(tf.concat([-2 * z, extra], axis=1), tf.float32),
        tf.cast(4 * rho, tf.float32),
        tf.cast(tf.stack([relative, absolute, tf.norm(middle)]), tf.float32),
    )

"""Lloyd's assignments with less work: a bound per image, then a screen in few dimensions.

1. One number an image, a lower bound of how much farther its second nearest centroid is than its
   own, shrinks as centroids move; while it is positive the image is not looked at (Hamerly: Making
   k-means even faster, SDM 2010, with the difference of his two bounds).
2. Images in doubt are screened in the few dimensions in which the centroids lie. With V [d, d'] of
   orthonormal columns, y an image, c_j the centroids, z = Vᵀy, r what V leaves of y, and e_j what
   it leaves of c_j,

       ‖y − c_j‖² − ‖y‖² = ‖c_j‖² − 2 z·z_j − 2 r·e_j,    |r·e_j − r·m| ≤ ‖r‖ ‖e_j − m‖

   for any m, and r·m is the same for all j: a centroid whose upper bound is below the lower bounds
   of all others is the nearest (compare block vectors: Bottesch, Bühler, Kächele, ICML 2016). V
   spans the centroids before the images, so little is left of them, and most doubts end here.
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

# Beyond the span of few centroids, V has the images' leading directions, in which they move.
MIN_COLUMNS, MAX_COLUMNS = 48, 96
# Where memory is left for fewer, a screen is worth less than the pass that makes it.
LEAST_COLUMNS = 16
# How many of a replica's images these directions are those of.
SAMPLE_IMAGES = 2048
# A screen is renewed when it has left in doubt as many images as could be assigned meanwhile.
RENEWAL = 1.3
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
    """How images are projected.

    Attributes:
      columns: orthonormal, float32 [d, d'].
      spread: a bound of ‖|V|‖₂, by which rounding in a projection may grow.
    """

    columns: tf.Tensor
    spread: tf.Tensor


class Screen(NamedTuple):
    """The centroids as the screen needs them.

    Attributes:
      weights: float32 [k, d' + 1], and bias: float32 [k]; with an image's row they give a lower
        bound of ‖y − c_j‖² − ‖y‖², the same unknown r·m apart for all j.
      widths: 4 ‖e_j − m‖, float32 [k]; times ‖r‖ it makes an upper bound of the lower one.
      rounding: float32 [3]: relative to ‖y‖, absolute, and ‖m‖.
    """

    weights: tf.Tensor
    bias: tf.Tensor
    widths: tf.Tensor
    rounding: tf.Tensor


class Hamerly:
    """Bounds and a screen: 12 + 4 (d' + 1) bytes an image, d' ≤ 96 and at most d / 4."""

    def __init__(self, images: Images, config: FitConfig):
        self._images = images
        wanted = int(np.clip(2 * config.k, MIN_COLUMNS, MAX_COLUMNS))
        columns = min(wanted, images.num_features // 4, images.spare_row_bytes // 4 - 1)
        narrow = columns < min(LEAST_COLUMNS, images.num_features // 4)
        self._columns = 0 if narrow else columns  # 0: no screen
        self._first = images.compile(_assign_all, images.units)
        self._project = images.compile(_project, images.units)
        self._step = images.compile(_assign_in_doubt, images.units)
        self.start()

    @property
    def clusters(self) -> Any:
        return self._state.clusters

    def start(self) -> None:
        self._basis: Basis | None = None
        self._rows: Any = ()  # of the screen: z, ‖r‖; float32 [n, d' + 1]
        self._unresolved = 0.0  # images that were scored since the screen was renewed
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
            probes = _noise(self._images.num_features, self._columns).astype(np.float32)
            self._state, outcome = self._first(self._state, (scorer, probes))
            *totals, self._directions = outcome
            unresolved: float = self._images.num_images
        else:
            if self._columns and self._unresolved > RENEWAL * self._images.num_images:
                self._renew(centroids)
            losses = losses_of(centroids, self._before)
            shared = (scorer, losses, centroids, self._basis)
            (self._state, self._rows), outcome = self._step((self._state, self._rows), shared)
            *totals, screened, unresolved = outcome
            if self._basis is not None and unresolved > WORTHWHILE * screened:
                self._basis, self._rows = None, ()  # until it is renewed
        self._unresolved += unresolved
        self._before = centroids
        return change(totals)

    def _renew(self, centroids: np.ndarray) -> None:
        """Projects all images into a basis for the next iterations."""
        start = _noise(*self._directions.shape)
        self._basis = basis_of(centroids, self._before, start, self._directions)
        self._rows = ()  # their memory is for the new ones
        self._rows, _ = self._project((), self._basis)
        self._unresolved = 0.0


def _noise(num_features: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_features, columns))


def _assign_all(images, squared_norm, state, shared, units):
    scorer, probes = shared
    nearest = kmeans.assign(images, squared_norm, scorer, units)
    sums = kmeans.moved_sums(images, state.clusters, nearest.clusters, scorer.weights.shape)
    return State(*nearest), [*sums, _leading(images, probes)]


def _leading(images: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
    """Columns float64 [d, d'] in which the leading directions of a sample of the images weigh most.

    One step of subspace iteration from `probes` [d, d'].
    """
    sample = tf.cast(images[:SAMPLE_IMAGES], tf.float32)
    sample -= tf.math.divide_no_nan(
        tf.reduce_sum(sample, axis=0), tf.cast(tf.shape(sample)[0], tf.float32)
    )
    seen = tf.linalg.matmul(sample, kmeans.widened(probes, images, 0))
    found = tf.linalg.matmul(sample, seen, transpose_a=True)[: probes.shape[0]]
    return tf.cast(found, tf.float64)


def _project(images, squared_norm, _, basis, units):
    """The rows of the screen, for a new basis."""
    matrix = kmeans.widened(basis.columns / np.float32(units.scale), images, 0)

    def rows(start, stop):
        z = tf.linalg.matmul(tf.cast(images[start:stop], tf.float32), matrix)  # [B, d']
        norm = tf.cast(squared_norm[start:stop] / units.scale**2, tf.float32)
        # ‖r‖² from above: the rounding of a difference of numbers as large as these.
        slack = 4 * FLOAT32_ROUNDING * (images.shape[1] + 8) * norm
        rest = tf.sqrt(tf.maximum(norm - tf.reduce_sum(tf.square(z), axis=1), 0.0) + slack)
        return tf.concat([z, rest[:, None]], axis=1)

    width = basis.columns.shape[1] + 1
    return kmeans.fill_rows(rows, tf.size(squared_norm), images.shape[1], width), []


def _assign_in_doubt(images, squared_norm, state, shared, units):
    state, rows = state
    scorer, losses, centroids, basis = shared
    state = state._replace(gaps=state.gaps - tf.gather(losses, state.clusters))
    doubt = tf.where(state.gaps <= 0)[:, 0]
    before = tf.gather(state.clusters, doubt)
    if basis is None:
        found = State(*kmeans.assign(images, squared_norm, scorer, units, doubt))
        unresolved = tf.size(doubt)
    else:
        found = _screened(rows, squared_norm, doubt, screen_of(centroids, basis), units)
        left = tf.where(found.gaps <= 0)[:, 0]
        unresolved = tf.size(left)
        nearest = kmeans.assign(images, squared_norm, scorer, units, tf.gather(doubt, left))
        found = _updated(found, left, State(*nearest))
    sums = kmeans.moved_sums(images, before, found.clusters, scorer.weights.shape, doubt)
    counts = [tf.cast(count, tf.float64) for count in (tf.size(doubt), unresolved)]
    return (_updated(state, doubt, found), rows), [*sums, *counts]


def _updated(state: State, rows: tf.Tensor, found: State) -> State:
    """The state with what was found for the images in `rows`."""
    pairs = zip(state, found, strict=True)
    return State(*(tf.tensor_scatter_nd_update(old, rows[:, None], new) for old, new in pairs))


def _screened(
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    screen: Screen,
    units: kmeans.Units,
) -> State:
    """The images in `doubt` as far as the screen can tell: gaps are 0 where it cannot."""
    widest = max(screen.weights.shape)
    size = int(np.clip(SCREEN_BYTES // (4 * widest), 256, 16_384))

    def block(start, stop):
        index = doubt[start:stop]
        row = tf.gather(rows, index)
        product = tf.linalg.matmul(row, screen.weights, transpose_b=True)
        clusters, lowest, others = kmeans.lowest_two(product + screen.bias)
        rest = row[:, -1]
        upper = lowest + tf.gather(screen.widths, clusters) * rest
        norm = tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        difference = tf.maximum(others - upper - margin, 0.0)
        slack = margin + 4 * FLOAT32_ROUNDING * tf.square(norm)
        distance = tf.maximum(tf.square(norm) + upper + 2 * rest * screen.rounding[2] + slack, 0.0)
        return [clusters, kmeans.gap_of(distance, difference)]

    return State(*kmeans.by_rows(block, tf.size(doubt), size, [tf.int64, tf.float32]))


@tf.function(autograph=False)
def basis_of(
    centroids: tf.Tensor, before: tf.Tensor, start: tf.Tensor, directions: tf.Tensor
) -> Basis:
    """The leading directions of centroids [k, d] and of how they just moved, then of images.

    Subspace iteration from `start` [d, d'], then what it leaves of `directions` [d, d']: any
    orthonormal columns are right, leading ones are useful. In TensorFlow, whose threads and those
    of another library would wait for each other; on the host, where its QR decomposition takes and
    leaves its matrices even on a GPU.
    """
    with tf.device("CPU:0"):
        moves = tf.concat([centroids, centroids - before], axis=0)  # [2k, d]
        columns = start.shape[1]
        v = start[:, : min(columns, moves.shape[0])]
        for _ in range(SUBSPACE_ITERATIONS):
            v, _ = tf.linalg.qr(tf.matmul(moves, tf.matmul(moves, v), transpose_a=True))
        if rest := columns - v.shape[1]:
            left = directions - tf.matmul(v, tf.matmul(v, directions, transpose_a=True))
            _, rotation = tf.linalg.eigh(tf.matmul(left, left, transpose_a=True))  # ascending
            v, _ = tf.linalg.qr(tf.concat([v, tf.matmul(left, rotation[:, -rest:])], axis=1))
        v = tf.cast(v, tf.float32)
        # ‖|V|‖₂² ≤ ‖|V|‖₁ ‖|V|‖∞
        sums = [tf.reduce_max(tf.reduce_sum(tf.abs(v), axis)) for axis in (0, 1)]
        return Basis(v, tf.sqrt(sums[0] * sums[1]))


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
    z = tf.matmul(centroids, v)
    left = centroids - tf.matmul(z, v, transpose_b=True)
    middle = tf.reduce_mean(left, axis=0)
    rho = tf.norm(left - middle, axis=1) * (1 + 2.0**-20)
    squares = tf.reduce_sum(tf.square(centroids), axis=1)
    # The rounding of z (a product over d) and of the screen's own product, for two of its values.
    gamma = 1.01 * FLOAT32_ROUNDING
    largest = tf.reduce_max(tf.norm(z, axis=1))
    of_z = 4 * gamma * (d + 4) * tf.cast(basis.spread, tf.float64) * largest
    of_product = 4 * gamma * (columns + 5) * (largest + tf.reduce_max(rho))
    absolute = 4 * gamma * (columns + 8) * tf.reduce_max(squares)
    return Screen(
        tf.cast(tf.concat([-2 * z, -2 * rho[:, None]], axis=1), tf.float32),
        tf.cast(squares, tf.float32),
        tf.cast(4 * rho, tf.float32),
        tf.cast(tf.stack([of_z + of_product, absolute, tf.norm(middle)]), tf.float32),
    )

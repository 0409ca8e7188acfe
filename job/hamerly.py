"""Lloyd's assignments with less work: a bound per image, then a screen in few dimensions.

1. One number an image, a lower bound of how much farther its second nearest centroid is than its
   own, shrinks as centroids move; while it is positive the image is not looked at (Hamerly: Making
   k-means even faster, SDM 2010, with the difference of his two bounds).
2. Images in doubt are screened in the few dimensions in which the centroids lie. With V [d, d'] of
   orthonormal columns, y an image, c_j the centroids, z = Vᵀy, r what V leaves of y, and e_j what
   it leaves of c_j,

       ‖y − c_j‖² − ‖y‖² = ‖c_j‖² − 2 z·z_j − 2 r·e_j,    |r·e_j| ≤ ‖r‖ ‖e_j‖:

   a centroid whose upper bound is below the lower bounds of all others is the nearest (compare
   block vectors: Bottesch, Bühler, Kächele, ICML 2016). V spans the centroids before the images,
   so little is left of them, and most doubts end here. Many centroids do not fit into V; then the
   upper bound is the distance itself to the own centroid, and so is what takes the place of the
   lower bounds that are still below it: few of many.
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

# Columns of V for few, some and many centroids: beyond the span of few, V has the images' leading
# directions, in which they move; that of many is never whole. With ‖r‖ they fill vector registers.
FEW_COLUMNS, SOME_COLUMNS, MANY_COLUMNS = 47, 127, 79
# Where memory is left for fewer, a screen is worth less than the pass that makes it.
LEAST_COLUMNS = 16
# How many of a replica's images these directions are those of.
SAMPLE_IMAGES = 2048
# Costs in products with one column: reading an image, a distance to a single centroid. A screen is
# renewed when it has lost as much, against what it was when fresh, as a renewal costs.
IMAGE_COST, DISTANCE_COST = 40, 40
# From so many centroids on, distances to a few cost less than to all.
MANY_CENTROIDS = 200
SUBSPACE_ITERATIONS = 3
# A screen that leaves more than this share in doubt costs more than it saves.
WORTHWHILE = 0.6
SCREEN_BYTES = 4 << 20
RIVALS = 1024  # whose distances are computed at a time
GROUP = 32  # centroids that one lowest bound stands for


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
      gram: VᵀV, the identity but for rounding, float64 [d', d'].
      spread: a bound of ‖|V|‖₂, by which rounding in a projection may grow.
    """

    columns: tf.Tensor
    gram: tf.Tensor
    spread: tf.Tensor


class Screen(NamedTuple):
    """The centroids as the screen needs them.

    Attributes:
      weights: float32 [k, d' + 1], and bias: float32 [k]; with an image's row they give a lower
        bound of ‖y − c_j‖² − ‖y‖².
      widths: 4 ‖e_j‖, float32 [k]; times ‖r‖ it makes an upper bound of the lower one.
      rounding: float32 [2]: relative to ‖y‖, and absolute.
    """

    weights: tf.Tensor
    bias: tf.Tensor
    widths: tf.Tensor
    rounding: tf.Tensor


class Hamerly:
    """Bounds and a screen: 12 + 4 (d' + 1) bytes an image, d' ≤ 127 and at most d / 4."""

    def __init__(self, images: Images, config: FitConfig):
        self._images = images
        wanted = SOME_COLUMNS if 2 * config.k > FEW_COLUMNS else FEW_COLUMNS
        wanted = MANY_COLUMNS if config.k >= MANY_CENTROIDS else wanted
        columns = min(wanted, images.num_features // 4, images.spare_row_bytes // 4 - 1)
        narrow = columns < min(LEAST_COLUMNS, images.num_features // 4)
        self._columns = 0 if narrow else columns  # 0: no screen
        # In images scored in full.
        self._cost_of_screen = images.num_images * (columns + IMAGE_COST) / (config.k + IMAGE_COST)
        self._all = images.compile(_assign_all, images.units)
        self._project = images.compile(_project, images.units)
        self._step = images.compile(_assign_in_doubt, images.units)
        self.start()

    @property
    def clusters(self) -> Any:
        return self._state.clusters

    def start(self) -> None:
        self._basis: Basis | None = None
        self._rows: Any = ()  # of the screen: z, ‖r‖; float32 [n, d' + 1]
        # In images scored in full: what a fresh screen would have saved, and has to save; of those
        # that are screened, the share that a fresh one costs.
        self._loss, self._price, self._fresh = 0.0, self._cost_of_screen, None
        self._before: np.ndarray | None = None
        self._state = self._images.state(
            lambda count: State(
                np.full(count, -1, np.int64),
                np.zeros(count, np.float32),
            )
        )

    def assign(self, centroids: np.ndarray) -> Change:
        scorer = kmeans.scorer(centroids, self._images.units)
        if self._columns and self._loss > self._price:
            self._renew(centroids)
        if self._before is None or (self._columns and self._basis is None):
            # Most images are in doubt: no need for a graph that picks them.
            probes = _noise(self._images.num_features, self._columns).astype(np.float32)
            self._state, outcome = self._all(self._state, (scorer, probes))
            *totals, self._directions = outcome
            self._loss += self._images.num_images
        else:
            shared = (scorer, losses_of(centroids, self._before), self._basis)
            (self._state, self._rows), outcome = self._step((self._state, self._rows), shared)
            *totals, screened, cost = outcome
            share = cost / max(screened, 1)
            self._fresh = share if self._fresh is None else self._fresh
            self._loss += max(0.0, share - self._fresh) * screened
            if share > WORTHWHILE:
                # Here screens may never be worth it: the next try comes later.
                self._basis, self._rows, self._loss = None, (), 0.0
                self._price *= 2
        self._before = centroids
        return change(totals)

    def _renew(self, centroids: np.ndarray) -> None:
        """Projects all images into a basis for the next iterations."""
        start = _noise(*self._directions.shape)
        self._basis = basis_of(centroids, self._before, start, self._directions)
        self._rows = ()  # their memory is for the new ones
        self._rows, _ = self._project((), self._basis)
        self._loss, self._fresh = 0.0, None


def _noise(num_features: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_features, columns))


def _assign_all(images, squared_norm, state, shared, units):
    scorer, probes = shared
    nearest = kmeans.assign(images, squared_norm, scorer, units)
    sums = kmeans.moved_sums(images, state.clusters, nearest.clusters, scorer.centroids.shape)
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
        pixels = tf.cast(kmeans.between(images, start, stop), tf.float32)
        z = tf.linalg.matmul(pixels, matrix)  # [B, d']
        norm = tf.cast(squared_norm[start:stop] / units.scale**2, tf.float32)
        # ‖r‖² from above: the rounding of a difference of numbers as large as these.
        slack = 4 * FLOAT32_ROUNDING * (images.shape[1] + 8) * norm
        rest = tf.sqrt(tf.maximum(norm - tf.reduce_sum(tf.square(z), axis=1), 0.0) + slack)
        return tf.concat([z, rest[:, None]], axis=1)

    width = basis.columns.shape[1] + 1
    return kmeans.fill_rows(rows, tf.size(squared_norm), images.shape[1], width), []


def _assign_in_doubt(images, squared_norm, state, shared, units):
    state, rows = state
    scorer, losses, basis = shared
    state = state._replace(gaps=state.gaps - tf.gather(losses, state.clusters))
    doubt = tf.where(state.gaps <= 0)[:, 0]
    before = tf.gather(state.clusters, doubt)
    if basis is not None and scorer.centroids.shape[0] >= MANY_CENTROIDS:
        # Images of a cluster follow each other: see _own_products.
        order = tf.argsort(before)
        doubt, before = tf.gather(doubt, order), tf.gather(before, order)
    if basis is None:
        found = State(*kmeans.assign(images, squared_norm, scorer, units, doubt))
        cost = tf.cast(tf.size(doubt), tf.float64)
    else:
        screen = screen_of(scorer, basis, units)
        if scorer.centroids.shape[0] < MANY_CENTROIDS:
            found = _screened(rows, squared_norm, doubt, screen, units)
            cost = tf.zeros([], tf.float64)
        else:
            found, cost = _compared(
                images, rows, squared_norm, doubt, before, scorer, screen, units
            )
        left = tf.where(found.gaps <= 0)[:, 0]
        nearest = kmeans.assign(images, squared_norm, scorer, units, tf.gather(doubt, left))
        found = _updated(found, left, State(*nearest))
        cost += tf.cast(tf.size(left), tf.float64)
    sums = kmeans.moved_sums(images, before, found.clusters, scorer.centroids.shape, doubt)
    screened = tf.cast(tf.size(doubt), tf.float64)
    return (_updated(state, doubt, found), rows), [*sums, screened, cost]


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

    def block(start, stop):
        index = doubt[start:stop]
        row = tf.gather(rows, index)
        clusters, lowest, others = kmeans.lowest_two(_lower(row, screen))
        upper = lowest + tf.gather(screen.widths, clusters) * row[:, -1]
        norm = _norms(squared_norm, index, units)
        margin = screen.rounding[0] * norm + screen.rounding[1]
        return [clusters, _gaps(norm, upper, others, margin)]

    return State(*kmeans.by_rows(block, tf.size(doubt), _rows(screen), [tf.int64, tf.float32]))


def _compared(
    images: tf.Tensor,
    rows: tf.Tensor,
    squared_norm: tf.Tensor,
    doubt: tf.Tensor,
    before: tf.Tensor,
    scorer: kmeans.Scorer,
    screen: Screen,
    units: kmeans.Units,
) -> tuple[State, tf.Tensor]:
    """`_screened`, with distances to the own centroid and to those that may be nearer.

    Args:
      images: [n, d], as `stored`; rows: of the screen, float32 [n, d' + 1].
      squared_norm: pixels², float64 [n].
      doubt: rows of images, int64 [m]; before: their clusters, ascending, int64 [m].

    Returns:
      The state, and what the distances cost: images that could have been scored in full.
    """
    weights, bias = (
        part / np.float32(units.scale) for part in kmeans.rounded_weights(scorer, images)
    )
    # Distances to more than this cost more than those to all.
    most = (scorer.centroids.shape[0] + IMAGE_COST) / DISTANCE_COST
    margins = screen.rounding + scorer.margin * np.array([1, 1 / units.scale], np.float32)

    def block(start, stop):
        index, own = doubt[start:stop], before[start:stop]
        norm = _norms(squared_norm, index, units)
        margin = margins[0] * norm + margins[1]
        pixels = tf.cast(kmeans.take(images, index), tf.float32)
        upper = _own_products(pixels, own, weights) + tf.gather(bias, own)  # as in _distances
        lower = _lower(tf.gather(rows, index), screen)
        image, clusters, others = _nearer(lower, upper + margin, own)
        ones = tf.ones_like(image, tf.float32)
        few = tf.math.unsorted_segment_sum(ones, image, tf.size(own)) <= most
        rivals = tf.where(tf.gather(few, image))[:, 0]
        image, clusters = tf.gather(image, rivals), tf.gather(clusters, rivals)

        exact = _distances(pixels, image, clusters, weights, bias)
        found, best, second = _lowest_two(exact, clusters, image, upper, own)
        gaps = _gaps(norm, best, tf.minimum(others, second), margin)
        return [found, tf.where(few, gaps, 0.0), tf.cast(tf.size(rivals)[None], tf.float32)]

    dtypes = [tf.int64, tf.float32, tf.float32]
    size = min(_rows(screen), kmeans.block_rows(images.shape[1]))
    *found, counts = kmeans.by_rows(block, tf.size(doubt), size, dtypes)
    return State(*found), tf.reduce_sum(tf.cast(counts, tf.float64)) / most


def _distances(
    pixels: tf.Tensor, image: tf.Tensor, clusters: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Rounded ‖y − c‖² − ‖y‖² of pairs, images number `image` of pixels [m, d]; float32 [p].

    Args:
      image, clusters: int64 [p].
      weights: −2c / scale, float32 [k, d]; bias: ‖c‖², float32 [k].
    """

    def some(start, stop):
        rival = clusters[start:stop]
        product = tf.gather(pixels, image[start:stop]) * tf.gather(weights, rival)
        return [tf.reduce_sum(product, axis=1) + tf.gather(bias, rival)]

    (found,) = kmeans.by_rows(some, tf.size(image), RIVALS, [tf.float32])
    return found


def _own_products(pixels: tf.Tensor, own: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Products of images [m, d] with the weights [k, d] of their clusters, ascending; [m].

    One of matrices: what lies between the first and the last cluster is little of all, or there
    are few images.
    """
    nowhere = tf.zeros([1], tf.int64)
    first = tf.concat([own, nowhere], 0)[0]
    last = tf.concat([nowhere, own], 0)[-1]
    products = tf.linalg.matmul(pixels, weights[first : last + 1], transpose_b=True)
    return tf.gather(products, own - first, batch_dims=1)


def _nearer(
    lower: tf.Tensor, limit: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which centroids other than the own may be as near as `limit`.

    Centroids are looked at in groups, most of which are too far away.

    Args:
      lower: bounds, float32 [m, k]; limit: float32 [m]; own: clusters, int64 [m].

    Returns:
      Images and clusters, int64 [p]; the lowest bound of the centroids that are too far, [m].
    """
    num_groups = lower.shape[1] // GROUP
    groups = tf.reshape(lower, [-1, GROUP])
    lowest = tf.reshape(tf.reduce_min(groups, axis=1), [-1, num_groups])
    is_near = lowest <= limit[:, None]
    places = tf.where(is_near)
    image, group = places[:, 0], places[:, 1]
    bounds = tf.gather(groups, num_groups * image + group)
    is_nearer = bounds <= tf.gather(limit, image)[:, None]
    infinite = np.float32(np.inf)
    far = tf.reduce_min(tf.where(is_nearer, infinite, bounds), axis=1)
    others = tf.minimum(
        tf.reduce_min(tf.where(is_near, infinite, lowest), axis=1),
        tf.math.unsorted_segment_min(far, image, tf.size(own)),
    )
    pairs = tf.where(is_nearer)
    image, group = tf.gather(image, pairs[:, 0]), tf.gather(group, pairs[:, 0])
    clusters = GROUP * group + pairs[:, 1]
    rivals = tf.where(clusters != tf.gather(own, image))[:, 0]
    return tf.gather(image, rivals), tf.gather(clusters, rivals), others


def _lowest_two(
    exact: tf.Tensor, clusters: tf.Tensor, image: tf.Tensor, upper: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The nearest of an image's own centroid and its rivals; equal ones leave no gap.

    Args:
      exact: distances float32 [p] to the centroids of `clusters` from images number `image`, int64.
      upper: distances float32 [m] to those of `own`, int64 [m].

    Returns:
      Cluster int64, lowest and second lowest distance float32, each [m].
    """
    count = tf.size(own)
    nearest = tf.math.unsorted_segment_min(exact, image, count)
    # One winner even of equal ones. No GPU finds the highest of integers.
    number = tf.range(tf.cast(tf.size(image), tf.float32))
    ties = tf.where(exact == tf.gather(nearest, image), number, -1.0)
    winner = tf.math.unsorted_segment_max(ties, image, count)
    rest = tf.where(number == tf.gather(winner, image), np.float32(np.inf), exact)
    second = tf.math.unsorted_segment_min(rest, image, count)
    moves = nearest < upper
    places = tf.where(moves)
    moved = tf.gather(clusters, tf.cast(tf.gather_nd(winner, places), tf.int64))
    return (
        tf.tensor_scatter_nd_update(own, places, moved),
        tf.minimum(nearest, upper),
        tf.minimum(second, tf.maximum(nearest, upper)),
    )


def _rows(screen: Screen) -> int:
    """How many images are screened at a time."""
    return int(np.clip(SCREEN_BYTES // (4 * max(screen.weights.shape)), 256, 16_384))


def _lower(row: tf.Tensor, screen: Screen) -> tf.Tensor:
    """Lower bounds of ‖y − c_j‖² − ‖y‖² for rows of a screen; float32 [B, k]."""
    return tf.nn.bias_add(tf.linalg.matmul(row, screen.weights, transpose_b=True), screen.bias)


def _norms(squared_norm: tf.Tensor, index: tf.Tensor, units: kmeans.Units) -> tf.Tensor:
    """‖y‖ of the images in `index`, float32."""
    return tf.cast(tf.sqrt(tf.gather(squared_norm, index)) / units.scale, tf.float32)


def _gaps(norm: tf.Tensor, upper: tf.Tensor, others: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Lower bounds of gaps from bounds of ‖y − c‖² − ‖y‖² for the nearest and all others."""
    slack = margin + 4 * FLOAT32_ROUNDING * tf.square(norm)
    distance = tf.maximum(tf.square(norm) + upper + slack, 0.0)
    return kmeans.gap_of(distance, tf.maximum(others - upper - margin, 0.0))


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
        wide = tf.cast(v, tf.float64)
        # ‖|V|‖₂² ≤ ‖|V|‖₁ ‖|V|‖∞
        sums = [tf.reduce_max(tf.reduce_sum(tf.abs(v), axis)) for axis in (0, 1)]
        return Basis(v, tf.matmul(wide, wide, transpose_a=True), tf.sqrt(sums[0] * sums[1]))


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


def screen_of(scorer: kmeans.Scorer, basis: Basis, units: kmeans.Units) -> Screen:
    """What a screen in `basis` needs of the centroids."""
    d, columns = basis.columns.shape
    z = tf.matmul(scorer.centroids, tf.cast(basis.columns, tf.float64))
    squares = scorer.bias / units.scale
    # ‖c − Vz‖², and some rounding.
    rest = squares + tf.reduce_sum(z * (tf.matmul(z, basis.gram) - 2 * z), axis=1)
    rho = tf.sqrt(tf.maximum(rest, 0.0) + 2.0**-40 * squares)
    # The rounding of z (a product over d) and of the screen's own product, for two of its values.
    gamma = 1.01 * FLOAT32_ROUNDING
    largest = tf.sqrt(tf.reduce_max(squares))
    of_z = 4 * gamma * (d + 4) * tf.cast(basis.spread, tf.float64) * largest
    of_product = 4 * gamma * (columns + 5) * (largest + tf.reduce_max(rho))
    absolute = 4 * gamma * (columns + 8) * tf.reduce_max(squares)
    k = scorer.centroids.shape[0]
    border = -k % GROUP if k >= MANY_CENTROIDS else 0  # which is never near
    return Screen(
        tf.pad(
            tf.cast(tf.concat([-2 * z, -2 * rho[:, None]], axis=1), tf.float32),
            [(0, border), (0, 0)],
        ),
        tf.pad(tf.cast(squares, tf.float32), [(0, border)], constant_values=np.inf),
        tf.cast(4 * rho, tf.float32),
        tf.cast(tf.stack([of_z + of_product, absolute]), tf.float32),
    )

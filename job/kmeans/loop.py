"""The outer loop: for each restart, initial centroids → iterations → convergence."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from job import hashing
from job.config import FitConfig
from job.images.frame import Frame
from job.images.places import Place
from job.images.protocol import Images
from job.kmeans import ALGORITHMS, Algorithm, chosen_algorithm, init, load
from job.kmeans.blocks import aligned_empty
from job.kmeans.scores import scorer_of, squared_distances
from job.kmeans.sums import ClusterSums, inertia_of_means, means, parts_of
from job.kmeans.weighted import counting

ADDED = 1 << 19  # numbers at a time


class IterationRecord(NamedTuple):
    """One line of history.jsonl.

    Attributes:
      restart: from 0.
      iteration: from 1, in its restart.
      inertia: Σ squared distances to the means of the clusters just assigned, each times its
        image's weight, if there are weights.
      changed: images that changed cluster; if there are weights, the sum of these.
      shift: Σ squared distances that the centroids moved.
      empty: clusters that no image was assigned to; they were given the farthest images.
      seconds: the time this iteration took.
    """

    restart: int
    iteration: int
    inertia: float
    changed: int | float
    shift: float
    empty: int
    seconds: float


class Fitted(NamedTuple):
    """The outcome of one restart.

    Attributes:
      centroids: float32 [k, d], published units.
      inertia: of its last iteration.
      iterations: how many it took.
      converged: whether its last iteration changed nothing, or moved centroids no more than `tol`.
      restart: its number, from 0.
    """

    centroids: np.ndarray
    inertia: float
    iterations: int
    converged: bool
    restart: int


class Seconds(NamedTuple):
    """The time spent on initial centroids and on iterations, over all restarts."""

    init: float
    fit: float


class State(NamedTuple):
    """Where a fit stands after a round of seeding or an iteration: all it needs to resume.

    Attributes:
      restart: number of the one under way; once the fit is done, the number of all restarts.
      chosen: images that seeding has chosen so far, [d] each, in the set's dtype.
      iteration: iterations done in this restart.
      before: centroids of its last assignment, float64 [k, d]; None before the first.
      centroids: centroids of its next assignment, float64 [k, d]; None while seeding.
      total: sums of its last assignment; None before the first.
      inertia: of its last iteration.
      converged: whether no further iteration is needed.
      best: the best of the restarts before; None in the first.
      seconds: spent so far.
    """

    restart: int = 0
    chosen: tuple[np.ndarray, ...] = ()
    iteration: int = 0
    before: np.ndarray | None = None
    centroids: np.ndarray | None = None
    total: ClusterSums | None = None
    inertia: float = 0.0
    converged: bool = False
    best: Fitted | None = None
    seconds: Seconds = Seconds(0.0, 0.0)


class Callback(Protocol):
    """Follows the progress of a fit."""

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        """Called when the restart has so many of its initial centroids."""

    def on_iteration(self, record: IterationRecord) -> bool | None:
        """Called after every iteration; True ends the fit there, with what it has found."""

    def on_state(self, state: State) -> None:
        """Called with every state from which `run_restarts` can resume."""


def run_restarts(
    images: Images,
    config: FitConfig,
    callback: Callback,
    clock: Callable[[], float] = time.monotonic,
    state: State | None = None,
    drawn: Mapping[int, Sequence[np.ndarray]] | None = None,
) -> tuple[Fitted, Seconds]:
    """Runs all restarts and picks the one with the lowest inertia, the first of equal ones.

    Args:
      clock: returns the current time in seconds.
      state: one that a callback was called with, to resume from; the outcome has the same bits as
        that of the fit that was interrupted there. None: begins anew.
      drawn: by restart, the images that k-means++ drew for a larger k with the same options, of
        which the first are those for this k. They are not drawn again.

    Returns:
      The best restart, and the time spent.

    Raises:
      UserError: fewer distinct images than k, or a bad file of initial centroids.
    """
    algorithm = load(ALGORITHMS[chosen_algorithm(config)])(counting(images, config.k), config.k)
    state = state or State()
    while state.restart < config.restarts:
        if state.centroids is None and not state.chosen and drawn:
            state = state._replace(chosen=tuple(drawn.get(state.restart, ()))[: config.k])
        state, stopped = _iterate(images, algorithm, state, config, callback, clock)
        fitted = _fitted(state, images.frame)
        best = state.best if state.best and state.best.inertia <= fitted.inertia else fitted
        state = State(state.restart + 1, best=best, seconds=state.seconds)
        callback.on_state(state)
        if stopped:
            break
    assert state.best is not None  # there is at least one restart
    return state.best, state.seconds


def _fitted(state: State, frame: Frame) -> Fitted:
    """Makes the outcome of the restart that ends with `state`."""
    assert state.centroids is not None
    return Fitted(
        frame.published(state.centroids).astype(np.float32),
        state.inertia,
        state.iteration,
        state.converged,
        state.restart,
    )


def _seed(
    images: Images,
    state: State,
    config: FitConfig,
    callback: Callback,
    clock: Callable[[], float],
) -> State:
    """Chooses the initial centroids of the state's restart; returns the state with them."""
    start = clock()
    chosen = list(state.chosen)

    def seconds() -> Seconds:
        return state.seconds._replace(init=state.seconds.init + clock() - start)

    def progress(num_centroids: int) -> None:
        callback.on_seeding(state.restart, num_centroids)
        callback.on_state(state._replace(chosen=tuple(chosen), seconds=seconds()))

    found = init.initial_centroids(images, config, state.restart, progress, chosen)
    centroids = aligned_empty(found.shape, "float64")  # of which TensorFlow needs no copy
    centroids[:] = found
    return state._replace(chosen=(), centroids=centroids, seconds=seconds())


def _iterate(
    images: Images,
    algorithm: Algorithm,
    state: State,
    config: FitConfig,
    callback: Callback,
    clock: Callable[[], float],
) -> tuple[State, bool]:
    """Seeds and iterates to the end of the state's restart, or until the callback stops the fit.

    Returns:
      The state there, and whether it was stopped.
    """
    if state.centroids is None:
        state = _seed(images, state, config, callback, clock)
    algorithm.start()
    if state.before is not None:
        # After a resume, the images get their clusters again. The state holds the sums of these.
        algorithm.assign(state.before)
    while not state.converged and state.iteration < config.max_iterations:
        state, record = _step(images, algorithm, state, config, clock)
        stopped = callback.on_iteration(record) is True
        callback.on_state(state)
        if stopped:
            return state, True
    return state, False


def _step(
    images: Images,
    algorithm: Algorithm,
    state: State,
    config: FitConfig,
    clock: Callable[[], float],
) -> tuple[State, IterationRecord]:
    """Runs one iteration; returns the state after it, and its record."""
    start, before = clock(), state.centroids
    assert before is not None
    sums, changed = algorithm.assign(before)
    total = sums if state.total is None else state.total.merge(sums)
    del sums  # of many clusters they are large
    num_empty = int((total.counts == 0).sum())
    filled, taken = total, list[Place]()
    if num_empty:
        filled, taken = _fill_empty(images, algorithm.clusters, before, total, config)
    centroids = means(filled, images.units)
    inertia = inertia_of_means(images.squared_norm_total, filled, images.units)
    if inertia is None:
        inertia = _direct_inertia(images, algorithm.clusters, centroids, taken)
    inertia = images.frame.published_squared(inertia) * images.weight_unit
    shift = images.frame.published_squared(_squared_shift(centroids.ravel(), before.ravel()))
    record = IterationRecord(
        state.restart,
        state.iteration + 1,
        inertia,
        changed if images.weight_unit == 1 else changed * images.weight_unit,
        shift,
        num_empty,
        clock() - start,
    )
    after = state._replace(
        iteration=record.iteration,
        before=before,
        centroids=centroids,
        total=total,
        inertia=inertia,
        converged=num_empty == 0 and bool(changed == 0 or shift <= config.tol),
        seconds=state.seconds._replace(fit=state.seconds.fit + record.seconds),
    )
    return after, record


def _squared_shift(centroids: np.ndarray, before: np.ndarray) -> float:
    """Adds up the squares of centroids − before, which are as long; halves first, as numpy does."""
    if len(centroids) <= ADDED:
        return float(np.square(centroids - before).sum())
    half = len(centroids) // 2
    half -= half % 8
    parts = (slice(half), slice(half, None))
    first, second = (_squared_shift(centroids[part], before[part]) for part in parts)
    return first + second


def _fill_empty(
    images: Images, clusters: Any, centroids: np.ndarray, total: ClusterSums, config: FitConfig
) -> tuple[ClusterSums, list[Place]]:
    """Moves to each empty cluster the image that is farthest from its own centroid.

    The farthest image goes first, of equally far ones that with the smaller hash. The only image of
    a cluster is never taken.

    Args:
      clusters: of all images, a state: it stays as it is, only the sums follow the moves.
      centroids: float64 [k, d], by which the images were assigned.
      total: the sums of that assignment.

    Returns:
      The sums after the moves; where the images are that were moved.

    Raises:
      UserError: every image equals its centroid, so there are fewer distinct images than k.
    """
    sums, counts = total.sums.copy(), total.counts.copy()
    distances = _distances(images, clusters, centroids)
    own, far, taken = images.local(clusters), [-part for part in distances], list[Place]()
    hashes = [hashing.hashes(part, config.seed, "empty") for part in images.digests]
    each = images.weights or [np.ones(len(part)) for part in own]
    for empty in np.flatnonzero(total.counts == 0):
        keys = [
            np.where(counts[part] > weight, key, 0.0)
            for part, weight, key in zip(own, each, far, strict=True)
        ]
        # The weight is asked for together with the place: that may be another worker's.
        ((key, _, donor, weight, place),) = images.smallest([keys, hashes, own, each], 1)
        if key == 0:
            raise init.too_few_distinct(int((counts > 0).sum()), config.k)
        if images.holds(place):
            far[place.replica][place.row] = 0.0  # it is not taken again
        row, count = images.take([place]), int(weight)
        if images.units.quanta:
            row = np.concatenate(parts_of(row.astype(np.float64), images.units), axis=1)
        taken.append(place)
        sums[donor] -= count * row[0].astype(np.float64)
        sums[empty] += count * row[0].astype(np.float64)
        counts[donor] -= count
        counts[empty] += count
    return ClusterSums(sums, counts), taken


def _direct_inertia(
    images: Images, clusters: Any, centroids: np.ndarray, taken: list[Place]
) -> float:
    """Adds up the squared distances of all images to their clusters' centroids [k, d].

    Args:
      taken: images that were moved to empty clusters, of which each is the only one.
    """
    distances = [part.copy() for part in _distances(images, clusters, centroids)]
    for place in filter(images.holds, taken):
        distances[place.replica][place.row] = 0.0
    return images.total(distances)


def _distances(images: Images, clusters: Any, centroids: np.ndarray) -> list[np.ndarray]:
    """Computes this worker's images' squared distances to their clusters' centroids [k, d]."""
    scorer = scorer_of(centroids, images.units, images.precision)
    distances, _ = images.compile(_own_distances, images.units)(clusters, scorer)
    return images.local(distances)


def _own_distances(images, squared_norm, clusters, scorer, units):
    """A step: makes of clusters the squared distances to their centroids; no partial sums."""
    return squared_distances(images, squared_norm, clusters, scorer, units), []

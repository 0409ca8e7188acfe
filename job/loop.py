"""The outer loop: initial centroids → iterations → convergence, for each restart."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from job import init, kmeans, randomness
from job.config import FitConfig
from job.dataset import Images
from job.hamerly import Hamerly
from job.kmeans import ClusterSums
from job.lloyd import Algorithm, Lloyd

ALGORITHMS: dict[str, Callable[[Images, FitConfig], Algorithm]] = {
    "hamerly": Hamerly,
    "lloyd": Lloyd,
}


class IterationRecord(NamedTuple):
    """One line of history.jsonl.

    Attributes:
      restart: from 0.
      iteration: from 1, in its restart.
      inertia: Σ squared distances to the means of the clusters just assigned.
      changed: images that changed cluster.
      shift: Σ squared distances that the centroids moved.
      empty: clusters that were empty, and were given the farthest images.
      seconds: of this iteration.
    """

    restart: int
    iteration: int
    inertia: float
    changed: int
    shift: float
    empty: int
    seconds: float


class Fitted(NamedTuple):
    """The outcome of one restart.

    Attributes:
      centroids: float32 [k, d], published units.
      inertia: of its last iteration.
      iterations: how many.
      converged: whether it stopped by itself.
      restart: which one.
    """

    centroids: np.ndarray
    inertia: float
    iterations: int
    converged: bool
    restart: int


class Observer(Protocol):
    """What wants to know how a fit goes on."""

    def seeding(self, restart: int, num_centroids: int) -> None: ...
    def iteration(self, record: IterationRecord) -> None: ...


class Seconds(NamedTuple):
    """Where the time went."""

    init: float
    fit: float


def fit(
    images: Images,
    config: FitConfig,
    observer: Observer,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Fitted, Seconds]:
    """The restart with the lowest inertia, the first of equal ones.

    Raises:
      UserError: fewer distinct images than k, or a bad file of initial centroids.
    """
    algorithm = ALGORITHMS[chosen_algorithm(config)](images, config)
    best: Fitted | None = None
    seconds = Seconds(0.0, 0.0)
    for restart in range(config.restarts):
        start = clock()
        seeding = functools.partial(observer.seeding, restart)
        centroids = init.initial_centroids(images, config, restart, seeding)
        seeded = clock()
        fitted = _iterate(images, algorithm, centroids, config, restart, observer, clock)
        seconds = Seconds(seconds.init + seeded - start, seconds.fit + clock() - seeded)
        if best is None or fitted.inertia < best.inertia:
            best = fitted
    assert best is not None  # there is at least one restart
    return best, seconds


def chosen_algorithm(config: FitConfig) -> str:
    """The name of what `--algorithm` asks for; `auto` is what is fastest."""
    if config.algorithm != "auto":
        return config.algorithm
    return "hamerly" if config.k > 1 else "lloyd"


def _iterate(
    images: Images,
    algorithm: Algorithm,
    centroids: np.ndarray,
    config: FitConfig,
    restart: int,
    observer: Observer,
    clock: Callable[[], float],
) -> Fitted:
    algorithm.start()
    total = ClusterSums.zero(config.k, images.num_features)
    converged, iteration = False, 0
    while not converged and iteration < config.max_iterations:
        start = clock()
        iteration += 1
        change = algorithm.assign(centroids)
        total = total.merge(change.sums)
        num_empty = int((total.counts == 0).sum())
        filled = total
        if num_empty:
            filled = _fill_empty(images, algorithm.clusters, centroids, total, config)
        before, centroids = centroids, kmeans.means(filled, images.units)
        inertia = kmeans.inertia_of_means(images.squared_norm_total, filled, images.units)
        shift = float(np.square(centroids - before).sum())
        converged = num_empty == 0 and (change.changed == 0 or shift <= config.tol)
        observer.iteration(
            IterationRecord(
                restart, iteration, inertia, change.changed, shift, num_empty, clock() - start
            )
        )
    return Fitted(centroids.astype(np.float32), inertia, iteration, converged, restart)


def _fill_empty(
    images: Images, clusters: Any, centroids: np.ndarray, total: ClusterSums, config: FitConfig
) -> ClusterSums:
    """The sums as if each empty cluster had the image farthest from its centroid.

    Farthest first, equal ones by hash; never the only image of a cluster.

    Raises:
      UserError: no image is away from its centroid: the distinct images are fewer than k.
    """

    scorer = kmeans.scorer(centroids, images.units)
    distances, _ = images.compile(_own_distances, images.units)(clusters, scorer)
    sums, counts = total.sums.copy(), total.counts.copy()
    own, far = images.local(clusters), [-part for part in images.local(distances)]
    hashes = [randomness.hashes(part, config.seed, "empty") for part in images.digests]
    for empty in np.flatnonzero(total.counts == 0):
        keys = [np.where(counts[part] > 1, key, 0.0) for part, key in zip(own, far, strict=True)]
        (place,) = init.smallest([keys, hashes], 1)
        if keys[place.replica][place.row] == 0:
            raise init.too_few_distinct(int((total.counts > 0).sum()), config.k)
        far[place.replica][place.row] = 0.0  # taken
        donor, (row,) = own[place.replica][place.row], images.take([place])
        sums[donor] -= row
        sums[empty] += row
        counts[donor] -= 1
        counts[empty] += 1
    return ClusterSums(sums, counts)


def _own_distances(images, squared_norm, clusters, scorer, units):
    return kmeans.squared_distances(images, squared_norm, clusters, scorer, units), []

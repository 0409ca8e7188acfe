"""Callbacks of the loop of a fit: they record it, show it, and end it when they are asked to."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from job.checkpoint import Checkpoints
from job.distribute.replicas import Replicas
from job.kmeans.loop import Callback, IterationRecord, State
from job.result.write import History
from pipeline.errors import UserError
from pipeline.terminal import Progress


class Callbacks:
    """Several callbacks as one: each is called in turn."""

    def __init__(self, *callbacks: Callback):
        self._callbacks = callbacks

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        for callback in self._callbacks:
            callback.on_seeding(restart, num_centroids)

    def on_iteration(self, record: IterationRecord) -> bool | None:
        # All are told, also after one that stops the fit.
        answers = [callback.on_iteration(record) for callback in self._callbacks]
        return any(answer is True for answer in answers)

    def on_state(self, state: State) -> None:
        for callback in self._callbacks:
            callback.on_state(state)


class DoNothing:
    """Does nothing at any event: the base of callbacks that care for some events only."""

    def on_seeding(self, restart: int, num_centroids: int) -> None: ...
    def on_iteration(self, record: IterationRecord) -> bool | None: ...
    def on_state(self, state: State) -> None: ...


class Follower(Protocol):
    """What a Python caller's callback offers; `kmeans_job.callbacks.Callback` is its base."""

    def on_begin(self, config: dict[str, Any]) -> None:
        """Called before the first iteration, with the options of the fit by name."""

    def on_iteration(self, record: IterationRecord) -> bool | None:
        """Called after every iteration; True ends the fit there, with what it has found."""

    def on_end(self, metrics: dict[str, Any] | None) -> None:
        """Called with metrics.json of the finished result; with None if the fit has failed."""


class Following(DoNothing):
    """Tells a caller's callbacks of the iterations.

    Attributes:
      stopped: the restart and the iteration after which one of them stopped the fit, by name; None
        if none did.
    """

    def __init__(self, followers: Sequence[Follower], num_workers: int):
        self._followers, self._num_workers = followers, num_workers
        self.stopped: dict[str, int] | None = None

    def on_iteration(self, record: IterationRecord) -> bool | None:
        answers = [follower.on_iteration(record) for follower in self._followers]
        if not any(answer is True for answer in answers):
            return None
        if self._num_workers > 1:
            raise UserError(
                f"callbacks: one stops the fit, but {self._num_workers} workers take part, and the "
                "others do not know; give max_iterations or tol"
            )
        self.stopped = {"restart": record.restart, "iteration": record.iteration}
        return True

    @contextlib.contextmanager
    def fit(self, config: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Tells of the beginning, and of the end; yields what is to be called with the metrics."""
        ended: list[dict[str, Any]] = []
        begun: list[Follower] = []
        try:
            for follower in self._followers:
                begun.append(follower)
                follower.on_begin(config)
            yield ended.append
        finally:
            for follower in begun:
                follower.on_end(ended[0] if ended else None)


class Ending(DoNothing):
    """Ends a fit when a worker was asked to end. It must be called last, when the state is kept."""

    def __init__(self, replicas: Replicas):
        self._replicas = replicas

    def on_state(self, state: State) -> None:
        done = f"restart {state.restart + 1}, iteration {state.iteration}"
        self._replicas.end_all_if_asked(f"after {done}")


class Draws(DoNothing):
    """Keeps the images that seeding drew: a fit with fewer clusters starts from the first of them.

    Attributes:
      by_restart: images [d], in the order in which they were drawn, in the set's dtype.
    """

    def __init__(self) -> None:
        self.by_restart: dict[int, tuple[np.ndarray, ...]] = {}

    def on_state(self, state: State) -> None:
        if state.chosen:
            self.by_restart[state.restart] = state.chosen


class Recording(DoNothing):
    """Writes history.jsonl and checkpoints, and shows progress."""

    def __init__(
        self,
        num_images: int,
        k: int,
        history: History,
        progress: Progress,
        checkpoints: Checkpoints,
    ):
        self._num_images, self._k = num_images, k
        self._history, self._progress, self._checkpoints = history, progress, checkpoints
        self._iterations = history.text.count(b"\n")

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        figures = f"restart {restart + 1}, {num_centroids} of {self._k} initial centroids"
        self._progress.update(self._iterations, figures)

    def on_iteration(self, record: IterationRecord) -> None:
        self._history.write(record)
        self._iterations += 1
        rate = self._num_images / record.seconds if record.seconds else 0
        self._progress.update(
            self._iterations,
            f"inertia {record.inertia:.6g}, {record.changed:,.10g} changed, {rate:,.0f} images/s",
        )

    def on_state(self, state: State) -> None:
        # A reader finds in the history at least the iterations that the checkpoint has.
        if self._checkpoints.reached(state, self._history.text):
            self._history.flush()

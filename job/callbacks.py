"""Callbacks of the loop of a fit: they record it, show it, and end it when they are asked to."""

import numpy as np

from job.checkpoint import Checkpoints
from job.distribute.replicas import Replicas
from job.kmeans.loop import Callback, IterationRecord, State
from job.result.write import History
from pipeline.terminal import Progress


class Callbacks:
    """Several callbacks as one: each is called in turn."""

    def __init__(self, *callbacks: Callback):
        self._callbacks = callbacks

    def on_seeding(self, restart: int, num_centroids: int) -> None:
        for callback in self._callbacks:
            callback.on_seeding(restart, num_centroids)

    def on_iteration(self, record: IterationRecord) -> None:
        for callback in self._callbacks:
            callback.on_iteration(record)

    def on_state(self, state: State) -> None:
        for callback in self._callbacks:
            callback.on_state(state)


class DoNothing:
    """Does nothing at any event: the base of callbacks that care for some events only."""

    def on_seeding(self, restart: int, num_centroids: int) -> None: ...
    def on_iteration(self, record: IterationRecord) -> None: ...
    def on_state(self, state: State) -> None: ...


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
            f"inertia {record.inertia:.6g}, {record.changed:,} changed, {rate:,.0f} images/s",
        )

    def on_state(self, state: State) -> None:
        # A reader finds in the history at least the iterations that the checkpoint has.
        if self._checkpoints.reached(state, self._history.text):
            self._history.flush()

"""Who watches the loop of a fit: what ends it, and what tells people and the next run of it."""

from job import outputs
from job.checkpoint import Checkpoints
from job.loop import IterationRecord, State
from job.replicas import Replicas
from pipeline.terminal import Progress


class Follower:
    """Ends a fit when its workers are asked to."""

    def __init__(self, replicas: Replicas):
        self._replicas = replicas

    def seeding(self, restart: int, num_centroids: int) -> None: ...
    def iteration(self, record: IterationRecord) -> None: ...

    def reached(self, state: State) -> None:
        done = f"restart {state.restart + 1}, iteration {state.iteration}"
        self._replicas.end_if_asked(f"after {done}", together=True)


class Leader(Follower):
    """Also writes what happens to history.jsonl, the checkpoint and the terminal."""

    def __init__(
        self,
        replicas: Replicas,
        num_images: int,
        k: int,
        history: outputs.History,
        progress: Progress,
        checkpoints: Checkpoints,
    ):
        super().__init__(replicas)
        self._num_images, self._k = num_images, k
        self._history, self._progress, self._checkpoints = history, progress, checkpoints
        self._iterations = history.text.count(b"\n")

    def seeding(self, restart: int, num_centroids: int) -> None:
        figures = f"restart {restart + 1}, {num_centroids} of {self._k} initial centroids"
        self._progress.update(self._iterations, figures)

    def iteration(self, record: IterationRecord) -> None:
        self._history.write(record)
        self._iterations += 1
        rate = self._num_images / record.seconds if record.seconds else 0
        self._progress.update(
            self._iterations,
            f"inertia {record.inertia:.6g}, {record.changed:,} changed, {rate:,.0f} images/s",
        )

    def reached(self, state: State) -> None:
        self._checkpoints.reached(state, self._history.text)
        super().reached(state)

"""Summaries for TensorBoard: one more callback of the loop of a fit.

TensorFlow appends to its event files itself, so this does not go through `pipeline.storage`.
"""

import importlib.util
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from job.callbacks import DoNothing
from job.kmeans.loop import IterationRecord, State
from job.report import pictures
from pipeline.errors import UserError, install_hint

FLUSH_SECONDS = 10  # how long TensorFlow may keep what is written to itself
MAX_PICTURES = 100  # of centroids, the first ones


def check(folder: str | None) -> None:
    """Raises UserError if summaries are asked for that cannot be written."""
    if folder is not None and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            f"--tensorboard {folder}: the package tensorboard is not installed; "
            f"{install_hint('tensorboard')}"
        )


class Summaries(DoNothing):
    """Writes figures of each iteration and, ever more rarely, pictures of the centroids.

    Each restart is a run of its own, restart=0 …, unless there is only one.
    """

    def __init__(self, folder: str, image_shape: Sequence[int], restarts: int):
        """Opens no file yet.

        Args:
          image_shape: without (h, w) in it there are no pictures.
          restarts: of the fit.
        """
        self._folder, self._image_shape, self._restarts = folder, image_shape, restarts
        self._writers: dict[int, tf.summary.SummaryWriter] = {}

    def on_iteration(self, record: IterationRecord) -> None:
        with self._writer(record.restart).as_default(record.iteration):
            tf.summary.scalar("inertia", record.inertia)
            tf.summary.scalar("changed", record.changed)
            tf.summary.scalar("seconds", record.seconds)

    def on_state(self, state: State) -> None:
        if state.centroids is None or len(self._image_shape) < 2:
            return
        # After 1, 2, 4, 8 … iterations, and the last.
        if state.iteration.bit_count() == 1 or state.converged:
            with self._writer(state.restart).as_default(state.iteration):
                drawn = centroid_pictures(state.centroids, self._image_shape)
                tf.summary.image("centroids", drawn, max_outputs=MAX_PICTURES)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, restart: int) -> tf.summary.SummaryWriter:
        if restart not in self._writers:
            run = f"restart={restart}" if self._restarts > 1 else ""
            # Bytes, because a name need not be UTF-8.
            folder = os.fsencode(os.path.join(self._folder, run))
            try:
                self._writers[restart] = tf.summary.create_file_writer(
                    folder, flush_millis=FLUSH_SECONDS * 1_000
                )
            except tf.errors.OpError as error:
                reason = error.message.partition("}} ")[2].partition(" [Op:")[0] or error.message
                raise UserError(
                    f"--tensorboard {self._folder}: cannot be written: {reason}; give another "
                    "folder"
                ) from error
        return self._writers[restart]


def centroid_pictures(centroids: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Centroids [k, d] as uint8 [m, h, w, 1 or 3], m ≤ MAX_PICTURES."""
    shown = centroids[:MAX_PICTURES]
    low, high = pictures.display_range(shown, shown)
    drawn = pictures.as_pictures((shown - low) / (high - low), image_shape)
    return drawn if drawn.ndim == 4 else drawn[..., None]

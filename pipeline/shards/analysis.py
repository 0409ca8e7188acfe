"""The contract with whoever learns something of new images while their assignments are written.

An `Analysis` travels to the workers. There a `Summary` sees the images of one piece, beside what is
written of them, so that nothing reads the input again. The summaries are kept as files next to the
assignments, because they may be too large to travel, until one worker has all of them together.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.shards.assignments import Assigned, AssignmentsManifest
from pipeline.shards.manifest import TransformFile

PART_FILE = re.compile(r"analysis-\d{5,}-of-\d{5,}\.summary")


class Measured(NamedTuple):
    """Images with their nearest centroid, and how far the second nearest is.

    Attributes:
      assigned: the images and their clusters.
      second_squared_distances: to the second nearest centroid, float64 [B], published units²; those
        to the nearest where there is only one.
      squared_norms: ‖x‖², pixels², float64 [B]; of float32 images far from 0, seen from the middle
        of the centroids.
    """

    assigned: Assigned
    second_squared_distances: np.ndarray
    squared_norms: np.ndarray


class Written(NamedTuple):
    """Assignments that are written, apart from their manifest.

    Attributes:
      folder: the output folder.
      manifest: what its manifest.json will say.
      centroids: of the model, float32 [k, d], published units.
      image_shape: (h, w), (h, w, c) or (d,), of what was assigned.
      dtype: of the same, "uint8" or "float32".
      transform: the file in the model's folder that made vectors of images; None if there is none.
    """

    folder: str
    manifest: AssignmentsManifest
    centroids: np.ndarray
    image_shape: tuple[int, ...]
    dtype: str
    transform: TransformFile | None


class Summary(Protocol):
    """What is learned of the images of one piece."""

    def add(self, measured: Measured) -> None:
        """Adds the images of one more block."""
        ...

    def to_bytes(self) -> bytes:
        """Returns all that is needed of the piece; equal for the same blocks."""
        ...


class Analysis(Protocol):
    """What is to be learned of new images.

    It is pickled, so it should be small, and importing its module should be quick. What it writes
    must depend on the images alone, not on how they are cut into pieces.

    Attributes:
      files: names of the files that `complete` may write.
    """

    @property
    def files(self) -> tuple[str, ...]: ...

    def begin(self, num_images: int) -> Summary:
        """Begins the summary of a piece of a set of `num_images` images."""
        ...

    def complete(self, written: Written, summaries: Iterable[bytes]) -> None:
        """Writes what follows from all summaries, in the order of the pieces.

        It may be called again, and then writes the same.
        """
        ...


def part_file(number: int, num_shards: int) -> str:
    """Returns the name of the file with the summary of one piece."""
    return f"analysis-{number:05d}-of-{num_shards:05d}.summary"

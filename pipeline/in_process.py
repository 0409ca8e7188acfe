"""Shards and assignments of images that only this process can see: piece by piece, without Beam.

It calls the functions that an engine's workers call, so the bytes are the same.
"""

import functools
from collections.abc import Callable

from pipeline.features.source import Transformed
from pipeline.nearest import Model, NearestCentroid
from pipeline.shards import plan
from pipeline.sources import Planned
from pipeline.write import accumulate_piece, complete_set, write_shard
from pipeline.write_assignments import complete_assignments, write_assignments


def write_shards(
    source: Planned | Transformed,
    folder: str,
    num_shards: int,
    max_rejected: float,
    progress: Callable[[int], None],
) -> None:
    """Writes the shards and the manifest of `source`.

    Args:
      progress: called with the number of images that are done.
    """
    pieces = plan.pieces(source.num_images, num_shards)
    if isinstance(source, Transformed):
        if source.is_learned:
            sums = (accumulate_piece(source, piece) for piece in pieces)
            source.learn(functools.reduce(lambda one, other: one.merge(other), sums))
        source = source.loaded()
    written = []
    for piece in pieces:
        written.append(write_shard(source, piece, folder, num_shards))
        progress(piece.stop)
    complete_set(source, written, folder, num_shards, max_rejected)


def write_all_assignments(
    source: Planned | Transformed,
    model: Model,
    folder: str,
    num_shards: int,
    max_rejected: float,
    progress: Callable[[int], None],
) -> None:
    """Writes the assignments and the manifest of `source`.

    Args:
      progress: called with the number of files that are done.
    """
    nearest = NearestCentroid(model)
    if isinstance(source, Transformed):
        source = source.loaded()
    written = []
    for piece in plan.pieces(source.num_images, num_shards):
        written.append(write_assignments(source, piece, nearest, folder, num_shards))
        progress(piece.number + 1)
    complete_assignments(source, model, written, folder, num_shards, max_rejected)

"""Writing pieces again where only all of them together show what images and labels are called."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from pipeline import storage
from pipeline.pieces import PieceReader, SeenLabels, WrittenPiece
from pipeline.shards import ids, plan
from pipeline.shards.manifest import MANIFEST
from pipeline.shards.plan import Piece
from pipeline.sources import Source
from pipeline.sources.labels import names_of
from pipeline.sources.protocol import Renamable

logger = logging.getLogger(__name__)

W = TypeVar("W", bound=WrittenPiece)


def notes_are_gone(folder: str, num_shards: int) -> bool:
    """Whether an earlier call completed the set, and was interrupted while it cleaned up."""
    names = set(storage.list_names(folder))
    notes = {ids.part_file(number, num_shards) for number in range(num_shards)}
    return MANIFEST in names and not notes <= names


def rewritten(
    source: Renamable,
    written: Sequence[W],
    folder: str,
    num_shards: int,
    write: Callable[[Source, Piece], W],
) -> tuple[Source, list[W]]:
    """Writes those pieces again whose ids repeat, or whose labels had no number yet.

    An id that repeats says nothing, and the randomness of a fit follows from ids: so every image
    that brings one is called by its file and position, as images without an id are. Only few sets
    need it, so it is done here, one piece after the other.

    Args:
      written: all pieces, in order.
      write: writes one piece, but no notes: what is noted about ids must stay as it was, in case
        this function is called again.

    Returns:
      The source that the files follow from, and all pieces.
    """
    where = f"--input {source.request}"
    paths = [storage.join(folder, ids.part_file(part.number, num_shards)) for part in written]
    repeated = ids.repeated(paths, sum(part.shard.num_images for part in written))
    seen = functools.reduce(SeenLabels.merge, (part.labels for part in written))
    names = source.label_names or ()
    if seen.unnamed:
        names = names_of({*seen.unnamed, *(names or seen.numbers)}, where)
    doubled = [ids.count_in(path, repeated) if len(repeated) else 0 for path in paths]
    settled = source.renamed(names, repeated)
    pieces = plan.pieces(source.num_images, num_shards)
    if sum(doubled):
        first = pieces[int(np.argmax(np.array(doubled) > 0))]
        logger.warning(
            f"{where}: {sum(doubled):,} of {sum(part.shard.num_images for part in written):,} "
            f"images bring an id that another one has too, like {_example(source, first, repeated)}"
            "; they are called by their file and position"
        )
    again = [bool(seen.unnamed) or count > 0 for count in doubled]
    made = [
        write(settled, piece) if needed else part
        for piece, part, needed in zip(pieces, written, again, strict=True)
    ]
    return settled, made


def _example(source: Source, piece: Piece, repeated: np.ndarray) -> str:
    """Returns the first id of a piece that repeats."""
    for block in PieceReader(source, piece):
        found = np.isin(ids.hashed(block.ids), repeated)
        if found.any():
            return block.ids[int(found.argmax())]
    raise ValueError("no id of the piece repeats")


def remove_id_notes(folder: str) -> None:
    """Removes the hashes of ids, which nothing needs any more."""
    for name in storage.list_names(folder):
        if name.startswith("ids-"):
            storage.remove(storage.join(folder, name))

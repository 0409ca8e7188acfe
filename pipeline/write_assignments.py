"""Writing assignments of new images, in plain functions: one piece, then what completes them.

As in `write`, each of them may be repeated and then writes the same bytes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.nearest import Model, NearestCentroid, read_model
from pipeline.pieces import PieceReader, SeenLabels
from pipeline.rewrite import notes_are_gone, remove_id_notes, rewritten
from pipeline.shards.assignments import (
    ASSIGNMENTS,
    Assigned,
    AssignmentsManifest,
    ChecksumWriter,
    assignments_file,
    write_rows,
)
from pipeline.shards.manifest import MANIFEST, Shard
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import DEFAULT_FRACTION
from pipeline.sources import Source
from pipeline.sources.protocol import Renamable
from pipeline.write import label_names, remove_leftovers, settle


class WrittenAssignments(NamedTuple):
    """The published assignments of one piece.

    Attributes:
      number: the number of the piece.
      shard: the manifest's entry for their file.
      num_rejected: images of the piece that could not be read and are not in the file.
      labels: what was seen of the labels of the images.
      cluster_sizes: number of images in each cluster, int64 [k].
    """

    number: int
    shard: Shard
    num_rejected: int
    labels: SeenLabels
    cluster_sizes: np.ndarray


def write_assignments(
    source: Source, piece: Piece | Listing, nearest: NearestCentroid, folder: str, num_shards: int
) -> WrittenAssignments:
    """Reads one piece of `source` block by block and publishes its assignments below `folder`.

    Raises:
      UserError: the source cannot be read, or the assignments cannot be written.
    """
    reader = PieceReader(source, piece)
    written = _write_rows(reader, nearest, folder, num_shards)
    reader.write_notes(folder, num_shards)
    return written


def _write_rows(
    reader: PieceReader, nearest: NearestCentroid, folder: str, num_shards: int
) -> WrittenAssignments:
    number, source = reader.piece.number, reader.source
    name = assignments_file(number, num_shards)
    sizes = np.zeros(nearest.num_clusters, np.int64)

    def assigned() -> Iterator[Assigned]:
        for block in reader:
            yield (found := nearest(block))
            np.add.at(sizes, found.clusters, 1)

    with storage.publish(storage.join(folder, ASSIGNMENTS, name)) as file:
        writer = ChecksumWriter(file)
        write_rows(writer, assigned(), source.label_names)
    shard = writer.shard(name, int(sizes.sum()))
    return WrittenAssignments(number, shard, len(reader.rejections), reader.labels, sizes)


def complete_assignments(
    source: Source,
    model: Model,
    written: Iterable[WrittenAssignments],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
) -> None:
    """Completes assignments: removes temporary files and publishes the manifest.

    Args:
      written: all pieces, in any order, except pieces of a listed source that got no image; this
        function writes an empty file for these.
      max_rejected: the largest share of images that may be rejected.

    Raises:
      UserError: too many images were rejected, or the labels do not fit their names.
    """
    by_number = {part.number: part for part in written}
    for number in set(range(num_shards)) - by_number.keys():
        empty = Listing(number, [])
        by_number[number] = write_assignments(
            source, empty, NearestCentroid(model), folder, num_shards
        )
    ordered = [by_number[number] for number in sorted(by_number)]
    if isinstance(source, Renamable):
        if notes_are_gone(folder, num_shards):
            return
        nearest = NearestCentroid(model)
        source, ordered = rewritten(
            source,
            ordered,
            folder,
            num_shards,
            lambda source, piece: _write_rows(
                PieceReader(source, piece), nearest, folder, num_shards
            ),
        )
    settle(ordered, folder, num_shards, max_rejected)
    remove_leftovers(storage.join(folder, ASSIGNMENTS))
    sizes = np.sum([part.cluster_sizes for part in ordered], axis=0)
    manifest = AssignmentsManifest(
        model={"folder": model.folder, "fingerprint": model.fingerprint()},
        num_images=int(sizes.sum()),
        num_clusters=len(sizes),
        cluster_sizes=tuple(sizes.tolist()),
        label_names=label_names(source, ordered),
        files=tuple(part.shard for part in ordered),
        num_rejected=sum(part.num_rejected for part in ordered),
        source=source.request.describe(),
    )
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())
    remove_id_notes(folder)


def read_same_model(folder: str, fingerprint: str) -> Model:
    """Reads the model in `folder` on a worker, which must find the model that the job began with.

    Args:
      fingerprint: the fingerprint of the model when the job began.

    Raises:
      UserError: the model has another fingerprint now.
    """
    model = storage.retrying(lambda: read_model(folder))
    if model.fingerprint() != fingerprint:
        raise UserError(f"--model {folder}: replaced since the job began; run it again")
    return model

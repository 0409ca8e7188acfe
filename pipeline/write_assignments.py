"""Writing assignments of new images, in plain functions: one piece, then what completes them.

As in `write`, each of them may be repeated and then writes the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.nearest import Model, NearestCentroid, read_model
from pipeline.pieces import PieceReader, SeenLabels
from pipeline.rewrite import notes_are_gone, remove_id_notes, rewritten
from pipeline.shards import analysis as analyses
from pipeline.shards.analysis import Analysis, Written
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
    source: Source,
    piece: Piece | Listing,
    nearest: NearestCentroid,
    folder: str,
    num_shards: int,
    analysis: Analysis | None = None,
) -> WrittenAssignments:
    """Reads one piece of `source` block by block and publishes its assignments below `folder`.

    Args:
      analysis: what is to be learned of the images on the way, if anything.

    Raises:
      UserError: the source cannot be read, or the assignments cannot be written.
    """
    reader = PieceReader(source, piece)
    written = _write_rows(reader, nearest, folder, num_shards, analysis)
    reader.write_notes(folder, num_shards)
    return written


def _write_rows(
    reader: PieceReader,
    nearest: NearestCentroid,
    folder: str,
    num_shards: int,
    analysis: Analysis | None,
) -> WrittenAssignments:
    number, source = reader.piece.number, reader.source
    name = assignments_file(number, num_shards)
    sizes = np.zeros(nearest.num_clusters, np.int64)
    summary = None if analysis is None else analysis.begin(source.num_images)

    def assigned() -> Iterator[Assigned]:
        for block in reader:
            if summary is None:
                found = nearest(block)
            else:
                measured = nearest.measure(block)
                found = measured.assigned
                summary.add(measured)
            yield found
            np.add.at(sizes, found.clusters, 1)

    with storage.publish(storage.join(folder, ASSIGNMENTS, name)) as file:
        writer = ChecksumWriter(file)
        write_rows(writer, assigned(), source.label_names)
    if summary is not None:
        path = storage.join(folder, analyses.part_file(number, num_shards))
        storage.write_bytes(path, summary.to_bytes())
    shard = writer.shard(name, int(sizes.sum()))
    return WrittenAssignments(number, shard, len(reader.rejections), reader.labels, sizes)


def complete_assignments(
    source: Source,
    model: Model,
    written: Iterable[WrittenAssignments],
    folder: str,
    num_shards: int,
    max_rejected: float = DEFAULT_FRACTION,
    analysis: Analysis | None = None,
) -> None:
    """Completes assignments: what was learned of the images, and the manifest.

    Args:
      written: all pieces, in any order, except pieces of a listed source that got no image; this
        function writes an empty file for these.
      max_rejected: the largest share of images that may be rejected.
      analysis: as for `write_assignments`.

    Raises:
      UserError: too many images were rejected, or the labels do not fit their names.
    """
    if analysis is not None and _summaries_are_gone(folder, num_shards):
        return
    by_number = {part.number: part for part in written}
    for number in set(range(num_shards)) - by_number.keys():
        empty = Listing(number, [])
        by_number[number] = write_assignments(
            source, empty, NearestCentroid(model), folder, num_shards, analysis
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
                PieceReader(source, piece), nearest, folder, num_shards, analysis
            ),
        )
    settle(ordered, folder, num_shards, max_rejected)
    remove_leftovers(storage.join(folder, ASSIGNMENTS))
    manifest = _manifest(source, model, ordered)
    if analysis is not None:
        paths = (storage.join(folder, name) for name in _summary_files(num_shards))
        facts = model.centroids, model.image_shape, model.dtype, model.transform
        analysis.complete(Written(folder, manifest, *facts), map(storage.read_bytes, paths))
    # Last: a reader that sees the manifest may rely on everything else.
    storage.write_once(storage.join(folder, MANIFEST), manifest.to_json())
    remove_id_notes(folder)
    for name in storage.list_names(folder):
        if analyses.PART_FILE.fullmatch(name):
            storage.remove(storage.join(folder, name))


def _manifest(
    source: Source, model: Model, written: Sequence[WrittenAssignments]
) -> AssignmentsManifest:
    sizes = np.sum([part.cluster_sizes for part in written], axis=0)
    return AssignmentsManifest(
        model={"folder": model.folder, "fingerprint": model.fingerprint()},
        num_images=int(sizes.sum()),
        num_clusters=len(sizes),
        cluster_sizes=tuple(sizes.tolist()),
        label_names=label_names(source, written),
        files=tuple(part.shard for part in written),
        num_rejected=sum(part.num_rejected for part in written),
        num_skipped=source.num_skipped,
        source=source.request.describe(),
    )


def _summary_files(num_shards: int) -> list[str]:
    return [analyses.part_file(number, num_shards) for number in range(num_shards)]


def _summaries_are_gone(folder: str, num_shards: int) -> bool:
    """Whether an earlier call completed the assignments, and was interrupted as it cleaned up."""
    names = set(storage.list_names(folder))
    return MANIFEST in names and not names.issuperset(_summary_files(num_shards))


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

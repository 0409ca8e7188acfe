"""Assignments, images with their nearest centroid, as rows of Parquet files."""

import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards import json_text
from pipeline.shards.block import Block
from pipeline.shards.manifest import Shard

ASSIGNMENTS = "assignments"  # the folder of the files
FORMAT_VERSION = 1
ROW_GROUP = 65_536  # rows, at least, that are in memory before they are written


class Assigned(NamedTuple):
    """Images with their nearest published centroid.

    Attributes:
      block: the images.
      clusters: int32 [B].
      squared_distances: float64 [B], published units².
    """

    block: Block
    clusters: np.ndarray
    squared_distances: np.ndarray


class Column(NamedTuple):
    """A column of the assignments.

    Attributes:
      name: in the files.
      type: Arrow's.
      values: function (images assigned, names of labels) → a value for each image, in order.
      always: whether every image has a value; where not, it may be null.
    """

    name: str
    type: pa.DataType
    values: Callable[[Assigned, Sequence[str]], Any]
    always: bool = False


@dataclasses.dataclass(frozen=True)
class AssignmentsManifest:
    """The manifest.json of `assign`; written last, it says that the assignments are complete.

    Attributes:
      model: folder and fingerprint of the model.
      cluster_sizes: the number of images of each cluster.
      label_names: names of labels 0, 1, …; None where the images have none.
      files: below assignments/, in order.
      num_rejected: images that could not be read and are in none of the files.
      num_skipped: files that lie among the images and were not read.
      source: the input and the options that it was read with.
    """

    model: dict[str, str]
    num_images: int
    num_clusters: int
    cluster_sizes: tuple[int, ...]
    label_names: tuple[str, ...] | None
    files: tuple[Shard, ...]
    num_rejected: int
    source: dict[str, Any]
    num_skipped: int = 0  # a manifest of an older version does not have it
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """Returns the text of manifest.json."""
        return json_text.encode(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> "AssignmentsManifest":
        """Parses what `to_json` wrote."""
        fields = json.loads(text)
        names = fields.pop("label_names")
        return cls(
            cluster_sizes=tuple(fields.pop("cluster_sizes")),
            label_names=None if names is None else tuple(names),
            files=tuple(Shard(**file) for file in fields.pop("files")),
            **fields,
        )


class ChecksumWriter(io.RawIOBase):
    """Passes bytes on to a file, and computes a manifest's entry for them."""

    def __init__(self, file: BinaryIO):
        super().__init__()
        self._file = file
        self._crc = self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._file.write(part)
        self._crc = google_crc32c.extend(self._crc, part)
        self.num_bytes += len(part)
        return len(part)

    def tell(self) -> int:
        return self.num_bytes

    def shard(self, file: str, num_images: int) -> Shard:
        """Returns the manifest's entry for what was written, under the name `file`."""
        return Shard(file, num_images, self.num_bytes, f"{self._crc:08x}")


def assignments_file(number: int, num_shards: int) -> str:
    """Returns the name of the file with the assignments of a shard."""
    return f"assignments-{number:05d}-of-{num_shards:05d}.parquet"


def write_rows(
    file: BinaryIO | io.RawIOBase, assigned: Iterable[Assigned], label_names: Sequence[str] | None
) -> None:
    """Writes a Parquet file with a row for each image, a row group in memory at a time.

    Args:
      label_names: names of labels 0, 1, …; a label beyond them is named by its digits, so () names
        all labels by their digits. None in an unlabelled set.
    """
    # Writing to a Python object is safe where reading from one is not: Arrow writes on this thread
    # and lets go of the file when the block ends, so none of its threads can meet the object while
    # the interpreter shuts down.
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for table in _tables(assigned, label_names or ()):
            writer.write_table(table)


def _tables(parts: Iterable[Assigned], label_names: Sequence[str]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for assigned in parts:
        held.append(_rows(assigned, label_names))
        if sum(len(batch) for batch in held) >= ROW_GROUP:
            yield pa.Table.from_batches(held, SCHEMA)
            held = []
    yield pa.Table.from_batches(held, SCHEMA)


def _rows(assigned: Assigned, label_names: Sequence[str]) -> pa.RecordBatch:
    columns = [column.values(assigned, label_names) for column in COLUMNS]
    return pa.record_batch(columns, schema=SCHEMA)


def _labels(assigned: Assigned, names: Sequence[str]) -> pa.Array:
    labels = assigned.block.labels
    if labels is None:
        return pa.nulls(len(assigned.block.ids), pa.int64())
    return pa.array(labels, pa.int64(), mask=labels < 0)


def _label_names(assigned: Assigned, names: Sequence[str]) -> pa.Array:
    labels = assigned.block.labels
    if labels is None:
        return pa.nulls(len(assigned.block.ids), pa.string())
    # A block has few different labels: each name is made once, whatever the number of images.
    values, where = np.unique(labels, return_inverse=True)
    texts = [_name(value, names) for value in values.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(where))


def _name(label: int, names: Sequence[str]) -> str | None:
    if label < 0:
        return None
    return names[label] if label < len(names) else str(label)


# The columns, in their order. The files of `fit` and of `assign` have all of them.
COLUMNS = (
    Column("id", pa.string(), lambda assigned, names: pa.array(assigned.block.ids), always=True),
    Column("label", pa.int64(), _labels),
    Column("label_name", pa.string(), _label_names),
    Column("cluster", pa.int32(), lambda assigned, names: assigned.clusters, always=True),
    Column(
        "distance",
        pa.float32(),
        lambda assigned, names: np.sqrt(assigned.squared_distances).astype(np.float32),
        always=True,
    ),
)
SCHEMA = pa.schema([pa.field(c.name, c.type, nullable=not c.always) for c in COLUMNS])

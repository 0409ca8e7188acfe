"""TFRecord files of `tf.train.Example`: plain, gzip or zlib.

A TFRecord file has no index. It is read once to count its records and to keep the offset of every
1,024th, so that a piece can begin near its first record.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.shards.tfrecord import (
    HEAD_BYTES,
    DamagedRecord,
    Example,
    is_head,
    read_records,
    record_offsets,
)
from pipeline.sources.checks import short_names
from pipeline.sources.columns import LABEL_NAMES
from pipeline.sources.labels import NONE, Label, Unnamed, names_of, number_of
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.records.examples import (
    LABEL_KEYS,
    OBJECT_LABELS,
    content_of,
    id_of,
    label_in,
    weight_in,
)
from pipeline.sources.records.inflate import ZlibReader
from pipeline.sources.rows import Item, blocks, settle

logger = logging.getLogger(__name__)

_LABELS_TXT = ".labels.txt"
STRIDE = 1024  # records from one whose offset is kept to the next


class RecordFile(NamedTuple):
    """A TFRecord file.

    Attributes:
      name: the beginning of the ids of its images.
      offsets: in bytes, of the records 0, STRIDE, 2 · STRIDE, …
    """

    path: str
    name: str
    num_records: int
    offsets: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ExampleSource:
    """Images in TFRecord files, one per record, numbered through all files.

    Attributes:
      label_names: () until it is known that labels have other names than their digits.
      class_names: names of integer labels 0, 1, …, of a file beside the records; () if there is
        none.
      repeated: hashes of the ids that several images bring.
    """

    request: Request
    files: tuple[RecordFile, ...]
    label_names: tuple[str, ...] | None = ()
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    color: str = AUTO
    repeated: frozenset[int] = frozenset()
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        return sum(file.num_records for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        return blocks(self.items(piece), self, self.label_names is not None)

    def renamed(self, label_names: tuple[str, ...], repeated: np.ndarray) -> "ExampleSource":
        return dataclasses.replace(
            self, label_names=label_names, repeated=frozenset(repeated.tolist())
        )

    def items(self, piece: plan.Piece) -> Iterator[Item | Unnamed]:
        """Reads the images of a piece, one by one; before it a label that has no number yet."""
        numbers = {name: index for index, name in enumerate(self.label_names or ())}
        sizes = {file.name: file.num_records for file in self.files}
        for index, start, stop in plan.overlaps(piece, (f.num_records for f in self.files)):
            file = self.files[index]
            for number, feature in read_examples(file, start, stop):
                where = f"{file.path}: record {number}"
                label = self.label(feature, where)
                label_number = number_of(label, numbers)
                if label is not None and label_number is None:
                    yield Unnamed(label)
                image_id = id_of(feature, sizes, self.repeated) or f"{file.name}/{number:05d}"
                yield Item(
                    image_id,
                    NONE if label_number is None else label_number,
                    content_of(feature, self.request, where),
                    weight_in(feature, self.request, where),
                )

    def label(self, feature: Any, where: str) -> Label | None:
        """Returns the label of an image; as a name, if integers have names.

        Raises:
          UserError: it is neither an integer nor a name, or it has no name.
        """
        label = label_in(feature, self.request, where)
        if not (self.class_names and isinstance(label, int)):
            return label
        if not 0 <= label < len(self.class_names):
            raise UserError(
                f"{where}: label {label}, but {len(self.class_names)} names of labels lie beside "
                "the file; correct the label or add the name"
            )
        return self.class_names[label]


def open_tfrecords(request: Request, paths: list[str]) -> ExampleSource:
    """Opens TFRecord files, and reads where their records begin."""
    files = tuple(itertools.starmap(_index, zip(paths, short_names(paths), strict=True)))
    class_names = _class_names(paths, request) if request.wants_labels else ()
    source = ExampleSource(request, files, class_names=class_names)
    shape, dtype, color = settle(source.items(plan.Piece(0, 0, source.num_images)), request)
    names = None
    if request.wants_labels:
        _say_objects(source)
        names = _label_names(source)
    return dataclasses.replace(
        source, label_names=names, image_shape=shape, dtype=dtype, color=color
    )


def read_examples(file: RecordFile, start: int, stop: int) -> Iterator[tuple[int, Any]]:
    """Yields (number, features) of the records start … stop − 1.

    Raises:
      UserError: a record is damaged, or is no Example.
    """
    kept, further = divmod(start, STRIDE)  # the nearest kept offset, and records to skip from it
    with _open(file.path) as opened:
        offsets = record_offsets(opened, file.offsets[kept])
        opened.seek(next(itertools.islice(offsets, further, None)))
        for number, record in zip(range(start, stop), read_records(opened), strict=False):
            try:
                yield number, Example.FromString(record.data).features.feature
            except DecodeError as error:
                raise UserError(
                    f"{file.path}: record {number} is no tf.train.Example; write it again"
                ) from error


@contextlib.contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    with storage.open_unpacked(path) as file:
        start = file.read(HEAD_BYTES)
        file.seek(0)
        # A zlib stream has no magic number, but what begins as one is no length with its checksum.
        is_zlib = (
            start[:1] == b"\x78" and int.from_bytes(start[:2]) % 31 == 0 and not is_head(start)
        )
        try:
            yield io.BufferedReader(ZlibReader(file)) if is_zlib else file
        except DamagedRecord as error:
            raise UserError(f"{path}: damaged TFRecord file ({error}); write it again") from error
        except (EOFError, zlib.error) as error:
            if not is_zlib:
                raise
            raise UserError(f"{path}: damaged zlib stream ({error}); write it again") from error


def _index(path: str, name: str) -> RecordFile:
    kept = []
    count = 0
    with _open(path) as file:
        for offset in record_offsets(file):
            if count % STRIDE == 0:
                kept.append(offset)
            count += 1
    return RecordFile(path, name, count, tuple(kept))


def _label_names(source: ExampleSource) -> tuple[str, ...]:
    """Finds the names of the labels; () if no file has names and the first image of none has one.

    Where labels are names, all records are read now. Where they turn out to be names only later,
    the shards are written twice, so this saves time and decides nothing.
    """
    if source.class_names:
        return source.class_names
    first = (
        source.label(feature, f.path) for f in source.files for _, feature in read_examples(f, 0, 1)
    )
    if not any(isinstance(label, str) for label in first):
        return ()
    found = (
        source.label(feature, f"{file.path}: record {number}")
        for file in source.files
        for number, feature in read_examples(file, 0, file.num_records)
    )
    return names_of({label for label in found if label is not None}, f"--input {source.request}")


def _class_names(paths: list[str], request: Request) -> tuple[str, ...]:
    """Reads the names of labels in NAME.labels.txt beside the files, as TensorFlow Datasets has it.

    () if there is no such file, or there are several and none is the label's.
    """
    folder = os.path.dirname(paths[0])
    asked = request.label_column
    names = [name for name in storage.list_names(folder or ".") if name.endswith(_LABELS_TXT)]
    for key in (asked,) if asked else LABEL_NAMES:
        if f"{key}{_LABELS_TXT}" in names:
            text = storage.read_bytes(storage.join(folder, f"{key}{_LABELS_TXT}")).decode()
            return tuple(text.splitlines())
    return ()


def _say_objects(source: ExampleSource) -> None:
    """Logs a line where records have labels of objects, but none of the image."""
    for file in source.files:
        for _, feature in read_examples(file, 0, min(1, file.num_records)):
            if OBJECT_LABELS in feature and not any(key in feature for key in LABEL_KEYS):
                logger.warning(
                    f"--input {source.request}: {OBJECT_LABELS} of {file.path} labels objects in "
                    "an image, not the image: no labels are read"
                )
                return

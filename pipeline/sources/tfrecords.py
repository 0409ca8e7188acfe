"""TFRecord files of `tf.train.Example`, plain or gzip: encoded or raw images, or float features.

A TFRecord file has no index. It is read once to count its records and to keep the offset of every
1,024th, so that a piece can begin near its first record.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.shards.tfrecord import DamagedRecord, Example, read_records, record_offsets
from pipeline.sources.checks import short_names
from pipeline.sources.decode import Unreadable, check_convertible, decode, from_array, shape_text
from pipeline.sources.protocol import Request
from pipeline.sources.rows import FLOAT_KEYS, Row, assemble, first_row, read_row

LABEL_KEYS = ("image/class/label", "label")
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
    """Images in TFRecord files, one per record, numbered through all files."""

    request: Request
    files: tuple[RecordFile, ...]
    label_names: tuple[str, ...] | None
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"

    @property
    def num_images(self) -> int:
        return sum(file.num_records for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection]:
        labelled = self.label_names is not None
        rows = self.rows(piece)
        return assemble(rows, self.image_shape, self.dtype, labelled, self.request)

    def rows(self, piece: plan.Piece) -> Iterator[Row | Rejection]:
        """Reads the images of a piece, one by one."""
        labels = {name: index for index, name in enumerate(self.label_names or ())}
        for index, start, stop in plan.overlaps(piece, (f.num_records for f in self.files)):
            file = self.files[index]
            for number, feature in read_examples(file, start, stop):
                where = f"{file.path}: record {number}"
                label = _label(feature, labels) if self.label_names is not None else -1
                read = functools.partial(self._pixels, feature, where)
                yield read_row(_id(feature, file, number), label, read)

    def _pixels(self, feature: Any, where: str) -> np.ndarray:
        if encoded := _bytes(feature, "image/encoded"):
            return decode(encoded, self.request)
        if raw := _bytes(feature, "image/raw"):
            return from_array(_raw(raw, feature, where), self.request)
        if "image/encoded" in feature or "image/raw" in feature:
            raise Unreadable("empty image")
        for key in FLOAT_KEYS:
            if key in feature and (values := feature[key].float_list.value):
                pixels = np.array(values, np.float32)
                if self.image_shape and pixels.shape != self.image_shape:
                    raise Unreadable(f"{len(pixels)} values instead of {self.image_shape[0]}")
                return pixels
        raise UserError(
            f"{where}: an Example without image/encoded, image/raw or floats in "
            f"{', '.join(FLOAT_KEYS)}; it has {', '.join(sorted(feature)) or 'nothing'}"
        )


def open_tfrecords(request: Request, paths: list[str]) -> ExampleSource:
    """Opens TFRecord files, and reads where their records begin."""
    request.refuse_test_split()
    files = tuple(itertools.starmap(_index, zip(paths, short_names(paths), strict=True)))
    source = ExampleSource(request, files, None)
    everything = plan.Piece(0, 0, source.num_images)
    first = first_row(source.rows(everything), request)
    check_convertible(first.pixels.shape, first.pixels.dtype.name, request)
    return dataclasses.replace(
        source,
        label_names=_label_names(source),
        image_shape=first.pixels.shape,
        dtype=first.pixels.dtype.name,
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
        try:
            yield file
        except DamagedRecord as error:
            raise UserError(f"{path}: damaged TFRecord file ({error}); write it again") from error


def _index(path: str, name: str) -> RecordFile:
    kept = []
    count = 0
    with _open(path) as file:
        for offset in record_offsets(file):
            if count % STRIDE == 0:
                kept.append(offset)
            count += 1
    return RecordFile(path, name, count, tuple(kept))


def _label_names(source: ExampleSource) -> tuple[str, ...] | None:
    """Finds the names of the labels, as Source has them, by the type of the first image's label.

    Where labels are names, all records are read: the numbers of labels follow from their order.
    """
    every = (feature for f in source.files for _, feature in read_examples(f, 0, f.num_records))
    first = next(every)
    keys = [key for key in LABEL_KEYS if key in first]
    if not keys:
        return None
    if not first[keys[0]].bytes_list.value:
        return ()
    names = {_text(feature, key) for feature in itertools.chain([first], every) for key in keys}
    return tuple(sorted(name for name in names if name is not None))


def _label(feature: Any, labels: dict[str, int]) -> int | None:
    for key in LABEL_KEYS:
        if labels and (name := _text(feature, key)) is not None:
            return labels[name]
        if not labels and key in feature and (values := feature[key].int64_list.value):
            return values[0]
    return None


def _id(feature: Any, file: RecordFile, number: int) -> str:
    return _text(feature, "image/filename") or f"{file.name}/{number:05d}"


def _raw(raw: bytes, feature: Any, where: str) -> np.ndarray:
    """Returns pixels that are stored without encoding, uint8 [h, w, c].

    Raises:
      UserError: their shape is not stored beside them.
      Unreadable: they are not as many as their shape says.
    """
    shape = []
    for key in ("image/height", "image/width", "image/channels"):
        if key not in feature or not feature[key].int64_list.value:
            raise UserError(f"{where}: image/raw needs {key}, an integer")
        shape.append(feature[key].int64_list.value[0])
    if math.prod(shape) != len(raw):
        raise Unreadable(f"{len(raw)} bytes instead of {shape_text(tuple(shape))}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _bytes(feature: Any, key: str) -> bytes:
    values = feature[key].bytes_list.value if key in feature else ()
    return values[0] if values else b""


def _text(feature: Any, key: str) -> str | None:
    return _bytes(feature, key).decode("utf-8", "backslashreplace") or None

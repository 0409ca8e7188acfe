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
from pipeline.shards.ids import hashed
from pipeline.shards.rejected import Rejection
from pipeline.shards.tfrecord import DamagedRecord, Example, read_records, record_offsets
from pipeline.sources.checks import short_names, text_of
from pipeline.sources.decode import Unreadable, check_convertible, decode, from_array, shape_text
from pipeline.sources.labels import NONE, Label, Unnamed, names_of, number_of, plain
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
    """Images in TFRecord files, one per record, numbered through all files.

    Attributes:
      label_names: () until it is known that labels have other names than their digits.
      repeated: hashes of the ids that several images bring.
    """

    request: Request
    files: tuple[RecordFile, ...]
    label_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    repeated: frozenset[int] = frozenset()

    @property
    def num_images(self) -> int:
        return sum(file.num_records for file in self.files)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        return assemble(self.rows(piece), self.image_shape, self.dtype, True, self.request)

    def renamed(self, label_names: tuple[str, ...], repeated: np.ndarray) -> "ExampleSource":
        return dataclasses.replace(
            self, label_names=label_names, repeated=frozenset(repeated.tolist())
        )

    def rows(self, piece: plan.Piece) -> Iterator[Row | Rejection | Unnamed]:
        """Reads the images of a piece, one by one; before it a label that has no number yet."""
        numbers = {name: index for index, name in enumerate(self.label_names)}
        sizes = {file.name: file.num_records for file in self.files}
        for index, start, stop in plan.overlaps(piece, (f.num_records for f in self.files)):
            file = self.files[index]
            for number, feature in read_examples(file, start, stop):
                where = f"{file.path}: record {number}"
                label = label_in(feature, where)
                label_number = number_of(label, numbers)
                if label is not None and label_number is None:
                    yield Unnamed(label)
                image_id = _id(feature, sizes, self.repeated) or f"{file.name}/{number:05d}"
                read = functools.partial(self._pixels, feature, where)
                yield read_row(image_id, NONE if label_number is None else label_number, read)

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
    source = ExampleSource(request, files)
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


def _label_names(source: ExampleSource) -> tuple[str, ...]:
    """Finds the names of the labels; () if the first image of no file has a name.

    Where labels are names, all records are read now. Where they turn out to be names only later,
    the shards are written twice, so this saves time and decides nothing.
    """
    first = (
        label_in(feature, f.path) for f in source.files for _, feature in read_examples(f, 0, 1)
    )
    if not any(isinstance(label, str) for label in first):
        return ()
    found = (
        label_in(feature, f"{file.path}: record {number}")
        for file in source.files
        for number, feature in read_examples(file, 0, file.num_records)
    )
    return names_of({label for label in found if label is not None}, f"--input {source.request}")


def label_in(feature: Any, where: str) -> Label | None:
    """Returns the label of an image.

    Raises:
      UserError: it is neither an integer nor a name.
    """
    for key in LABEL_KEYS:
        if key in feature and (values := _values(feature[key])):
            label = plain(values if len(values) > 1 else values[0], where)
            if label not in (None, ""):
                return label
    return None


def _values(feature: Any) -> list[Any]:
    return list(feature.bytes_list.value or feature.int64_list.value or feature.float_list.value)


def _id(feature: Any, sizes: dict[str, int], repeated: frozenset[int]) -> str | None:
    """Returns the id that an image brings; None if it cannot serve as one.

    Args:
      sizes: numbers of records by the name of a file. FILE/00042 stands for a position.
      repeated: hashes of the ids that several images bring.
    """
    brought = _text(feature, "image/filename")
    if brought is None or (repeated and int(hashed([brought])[0]) in repeated):
        return None
    name, _, number = brought.rpartition("/")
    if name in sizes and number.isdecimal() and int(number) < sizes[name]:
        return None
    return brought


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
    if min(shape) < 1 or math.prod(shape) != len(raw):
        raise Unreadable(f"{len(raw)} bytes instead of {shape_text(tuple(shape))}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _bytes(feature: Any, key: str) -> bytes:
    values = feature[key].bytes_list.value if key in feature else ()
    return values[0] if values else b""


def _text(feature: Any, key: str) -> str | None:
    return text_of(_bytes(feature, key)) or None

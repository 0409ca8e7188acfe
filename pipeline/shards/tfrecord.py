"""TFRecord files and `tf.train.Example`, without TensorFlow, which takes a worker seconds to load.

https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HEAD_BYTES, TAIL_BYTES = 12, 4


class DamagedRecord(ValueError):
    """Raised for a record whose checksum is wrong or whose end is missing."""


class Record(NamedTuple):
    """A record as it is in the file.

    Attributes:
      head: length of the data and its checksum, 12 bytes.
      data: the content.
      tail: checksum of the data, 4 bytes.
    """

    head: bytes
    data: bytes
    tail: bytes


def frame(data: bytes) -> Record:
    """Makes a record of `data`."""
    length = struct.pack("<Q", len(data))
    return Record(length + _masked_crc(length), data, _masked_crc(data))


def read_records(file: BinaryIO) -> Iterator[Record]:
    """Reads the records from the file's present position on, one in memory at a time.

    Raises:
      DamagedRecord: a record is cut short or altered.
    """
    while head := file.read(HEAD_BYTES):
        length = _length(head)
        data, tail = file.read(length), file.read(TAIL_BYTES)
        if len(data) + len(tail) < length + TAIL_BYTES:
            raise DamagedRecord("cut short")
        if tail != _masked_crc(data):
            raise DamagedRecord("wrong checksum of a record")
        yield Record(head, data, tail)


def record_offsets(file: BinaryIO, offset: int = 0) -> Iterator[int]:
    """Yields where each record starts, from that at `offset` on; skips their data unchecked.

    Raises:
      DamagedRecord: the length of a record is altered, or the file is cut short.
    """
    file.seek(offset)
    while head := file.read(HEAD_BYTES):
        length = _length(head)
        file.seek(offset + HEAD_BYTES + length)
        if len(file.read(TAIL_BYTES)) < TAIL_BYTES:
            raise DamagedRecord("cut short")
        yield offset
        offset += HEAD_BYTES + length + TAIL_BYTES


def is_head(head: bytes) -> bool:
    """Whether a record begins with these 12 bytes."""
    return len(head) == HEAD_BYTES and head[8:] == _masked_crc(head[:8])


def _length(head: bytes) -> int:
    if len(head) < HEAD_BYTES:
        raise DamagedRecord("cut short")
    if not is_head(head):
        raise DamagedRecord("wrong checksum of a record's length")
    return int.from_bytes(head[:8], "little")


def _masked_crc(data: bytes) -> bytes:
    """Returns a CRC-32C as TFRecord has it: rotated by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _example_class() -> Any:
    """Makes the message class tf.train.Example, as TensorFlow's example.proto defines it.

    In a pool of its own: TensorFlow, where it is loaded, registers the same names.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow")
    file.syntax = "proto3"
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for number, (field, label, kind, type_name) in enumerate(fields, 1):
            made.field.add(name=field, number=number, label=label, type=kind, type_name=type_name)
        return made

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("BytesList", ("value", many, kinds.TYPE_BYTES, None))
    message("FloatList", ("value", many, kinds.TYPE_FLOAT, None))
    message("Int64List", ("value", many, kinds.TYPE_INT64, None))
    lists = [
        (f"{name}_list", one, kinds.TYPE_MESSAGE, f".tensorflow.{name.title()}List")
        for name in ("bytes", "float", "int64")
    ]
    feature = message("Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    entry = (
        ("key", one, kinds.TYPE_STRING, None),
        ("value", one, kinds.TYPE_MESSAGE, ".tensorflow.Feature"),
    )
    features = message(
        "Features", ("feature", many, kinds.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry")
    )
    nested = features.nested_type.add(name="FeatureEntry")
    nested.options.map_entry = True
    for number, (name, label, kind, type_name) in enumerate(entry, 1):
        nested.field.add(name=name, number=number, label=label, type=kind, type_name=type_name)
    message("Example", ("features", one, kinds.TYPE_MESSAGE, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()

"""Vectors of a piece that are kept between two passes, so that a model runs once for each image.

It is a file beside the shards that ends as temporary ones do, which go when the set is complete.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.shards.block import Block, decode_block, encode_block
from pipeline.shards.manifest import shard_file
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import Rejection
from pipeline.shards.tfrecord import frame, read_records
from pipeline.sources.labels import Unnamed

_LENGTH = struct.Struct("<I")
_BLOCK, _REJECTION, _UNNAMED = b"B", b"R", b"U"


class Vectors(NamedTuple):
    """The layout of blocks of vectors; those without labels get −1."""

    num_features: int
    dtype: str = "float32"
    label_names: tuple[str, ...] = ()


def kept_file(folder: str, piece: Piece | Listing) -> str:
    """Returns the path of the vectors of a piece."""
    return storage.join(folder, f"{shard_file(piece.number, 0)}.0{storage.TEMPORARY_SUFFIX}")


def keep(found: Iterable[Any], path: str) -> Iterator[Any]:
    """Passes on what was found in a piece, and publishes it at `path` at the end."""
    with storage.publish(path) as file:
        for each in found:
            for part in frame(_encoded(each)):
                file.write(part)
            yield each


def read_kept(path: str) -> Iterator[Any]:
    """Reads what `keep` wrote at `path`."""
    with storage.open_read(path) as file:
        for record in read_records(file):
            yield _decoded(record.data)


def _encoded(found: Any) -> bytes:
    if isinstance(found, Block):
        return _BLOCK + _LENGTH.pack(found.pixels.shape[1]) + encode_block(found)
    kind = _REJECTION if isinstance(found, Rejection) else _UNNAMED
    return kind + json.dumps(list(found)).encode()


def _decoded(data: bytes) -> Any:
    kind, content = data[:1], data[1:]
    if kind == _BLOCK:
        (num_features,) = _LENGTH.unpack_from(content)
        return decode_block(content[_LENGTH.size :], Vectors(num_features))
    return (Rejection if kind == _REJECTION else Unnamed)(*json.loads(content))

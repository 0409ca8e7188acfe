"""The files in a zip archive, one after the other.

Python's own reader holds the whole directory of an archive in memory. This one reads it entry by
entry, so that memory does not grow with the number of files.

https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import functools
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pipeline.sources.archives.member import Member, NoFile
from pipeline.sources.checks import text_of

_END = struct.Struct("<4s4H2IH")  # of the directory
_END_64_PLACE = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT_BYTES = 1 << 16
_UNKNOWN = 0xFFFFFFFF  # the number stands in the extra field instead
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNIX, _LINK = 3, 0o120000


class _Entry(NamedTuple):
    """An entry of the directory."""

    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    offset: int
    is_link: bool


def members(file: BinaryIO, start: int) -> Iterator[Member | NoFile]:
    """Yields the files in the archive; `start` is an offset in its directory, 0: all.

    Raises:
      ValueError: the archive is damaged, or is none.
    """
    first, end, shift = _directory(file)
    at = start or first
    while at < end:
        file.seek(at)
        head = _exactly(file, _ENTRY.size, "its directory")
        fields = _ENTRY.unpack(head)
        if fields[0] != b"PK\1\2":
            raise ValueError(f"no entry of its directory at byte {at:,}")
        lengths = fields[10:13]  # of name, extra field and comment
        tail = _exactly(file, sum(lengths), "its directory")
        entry = _entry(fields, tail[: lengths[0]], tail[lengths[0] : lengths[0] + lengths[1]])
        if not entry.name.endswith("/"):
            yield _member(file, entry, at, shift)
        at += _ENTRY.size + sum(lengths)


def _member(file: BinaryIO, entry: _Entry, at: int, shift: int) -> Member | NoFile:
    if entry.is_link:
        return NoFile(entry.name, at, "a link within the archive")
    if entry.flags & _ENCRYPTED:
        return NoFile(entry.name, at, "encrypted in the archive; unpack it")
    if entry.method not in (_STORED, _DEFLATED):
        return NoFile(entry.name, at, f"packed by method {entry.method}; unpack it")
    return Member(entry.name, at, functools.partial(_content, file, entry, shift))


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Finds where the directory begins and ends, and how many bytes lie before the archive."""
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _MAX_COMMENT_BYTES - _END.size)
    file.seek(tail_start)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise ValueError("no directory at its end: cut short, or no zip archive")
    end = tail_start + place
    length, offset = _END.unpack_from(tail, place)[5:7]
    if end >= _END_64_PLACE.size:
        file.seek(end - _END_64_PLACE.size)
        found = _END_64_PLACE.unpack(file.read(_END_64_PLACE.size))
        if found[0] == b"PK\6\7":
            file.seek(found[2])
            fields = _END_64.unpack(_exactly(file, _END_64.size, "its directory"))
            length, offset = fields[8:10]
            end = found[2]
    first = end - length
    if first < offset:
        raise ValueError("its directory is cut short")
    return first, end, first - offset


def _entry(fields: tuple, name: bytes, extra: bytes) -> _Entry:
    _, made_by, _, flags, method, _, _, crc, packed, size = fields[:10]
    attributes, offset = fields[15:17]
    wide = _wide_numbers(extra)
    # The numbers that did not fit, in this order.
    size, packed, offset = (
        next(wide, value) if value == _UNKNOWN else value for value in (size, packed, offset)
    )
    text = text_of(name if flags & _UTF8 else name.decode("cp437").encode())
    is_link = made_by >> 8 == _UNIX and (attributes >> 16) & 0o170000 == _LINK
    return _Entry(text, flags, method, crc, packed, size, offset, is_link)


def _wide_numbers(extra: bytes) -> Iterator[int]:
    """Yields the 64-bit numbers in the extra field of an entry."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            body = extra[at + 4 : at + 4 + length]
            yield from struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8])
        at += 4 + length


def _content(file: BinaryIO, entry: _Entry, shift: int) -> bytes:
    file.seek(entry.offset + shift)
    local = _LOCAL.unpack(_exactly(file, _LOCAL.size, entry.name))
    if local[0] != b"PK\3\4":
        raise ValueError(f"{entry.name} is not where the directory says")
    file.seek(local[9] + local[10], os.SEEK_CUR)
    data = _exactly(file, entry.packed_bytes, entry.name)
    if entry.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.num_bytes + 1)
        except zlib.error as error:
            raise ValueError(f"{entry.name}: {error}") from error
    if len(data) != entry.num_bytes or zlib.crc32(data) != entry.crc:
        raise ValueError(f"{entry.name} has another checksum than the directory says")
    return data


def _exactly(file: BinaryIO, num_bytes: int, what: str) -> bytes:
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise ValueError(f"{what} is cut short")
    return data

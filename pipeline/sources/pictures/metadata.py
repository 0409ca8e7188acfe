"""Image files without what holds no pixels, so that comments, profiles and EXIF cannot spoil them.

Libraries reject a photo whose comment is too large, whose colour profile is damaged or whose EXIF
has an odd tag, though its pixels are fine. Here the parts that make pixels are kept, and of EXIF
the one tag that says which side is up. What is not understood is left to the decoder as it is.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

UPRIGHT = 1
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_ORIENTATION = 0x0112
# A JFIF segment decides how colours are stored; its density does not matter.
_JFIF = b"JFIF\0\x01\x01\0\0\1\0\1\0\0"
_ADOBE_BYTES = 12
# Segments of a JPEG file that begin a frame, and where these have the number of channels.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_CHANNELS_AT = 5


class Picture(NamedTuple):
    """What makes the pixels of an image file.

    Attributes:
      data: an image file without the rest.
      orientation: EXIF's number, 1 … 8.
      is_whole: False where the end of the file is missing.
    """

    data: bytes
    orientation: int = UPRIGHT
    is_whole: bool = True


class PngHeader(NamedTuple):
    """What a PNG file says about its pixels.

    Attributes:
      depth: bits per channel.
      is_grey: whether it has one channel, apart from alpha.
      key: the grey or (red, green, blue) that stands for transparent; () if none does.
    """

    depth: int
    is_grey: bool
    key: tuple[int, ...]


def picture_in(data: bytes) -> Picture:
    """Returns the part of an image file that makes its pixels."""
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Picture(data, _webp_orientation(data))
    return Picture(data)


def png_header(data: bytes) -> PngHeader | None:
    """Returns what a PNG file says about its pixels; None if it is no PNG file, or damaged."""
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or len(data) < 26:
        return None
    depth, kind = data[24], data[25]
    key = next((body for name, body in _chunks(data) if name == b"tRNS"), b"")
    channels = {0: 1, 2: 3}.get(kind, 0)  # other kinds have alpha, or a palette
    if len(key) < 2 * channels:
        channels = 0
    # Only the lowest bits count where pixels have fewer than 16.
    values = (each & ((1 << depth) - 1) for each in struct.unpack_from(f">{channels}H", key))
    return PngHeader(depth, kind in (0, 4), tuple(values))


def jpeg_channels(data: bytes) -> int | None:
    """Returns the number of channels of a JPEG file; None if it is none, or its header is cut."""
    if not data.startswith(_JPEG):
        return None
    for marker, body in _segments(data):
        if marker in _FRAMES and len(body) > _CHANNELS_AT:
            return body[_CHANNELS_AT]
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (marker, content) of the segments before the pixels of a JPEG file."""
    start = len(_JPEG)
    while start + 4 <= len(data) and data[start] == 0xFF:
        if data[start + 1] == 0xFF:  # fills up
            start += 1
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if data[start + 1] == 0xDA or end > len(data):
            return
        yield data[start + 1], data[start + 4 : end]
        start = end


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields (name, content) of the chunks that are whole, with no look at their checksums."""
    start = len(_PNG)
    while start + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, start)
        if start + 12 + length > len(png):
            return
        yield name, png[start + 8 : start + 8 + length]
        if name == b"IEND":
            return
        start += 12 + length


def _png(data: bytes) -> Picture:
    """Leaves out the chunks that decoders may ignore, all but transparency."""
    kept, start, ended = [_PNG], len(_PNG), False
    for name, body in _chunks(data):
        end = start + 12 + len(body)
        ended = name == b"IEND"
        if ended:
            kept.append(struct.pack(">I4sI", 0, name, zlib.crc32(name)))
        elif not name[0] & 0x20 or name == b"tRNS":
            kept.append(data[start:end])
        start = end
    return Picture(b"".join(kept)) if ended else Picture(data, is_whole=False)


def _jpeg(data: bytes) -> Picture:
    """Leaves out comments and the segments of applications, all but those about colours."""
    kept, orientation, start = [_JPEG], UPRIGHT, len(_JPEG)
    while data[start : start + 1] == b"\xff":
        marker = data[start + 1 : start + 2]
        if marker == b"\xff":  # fills up
            start += 1
            continue
        if marker in (b"", b"\xda") or start + 4 > len(data):  # pixels begin
            break
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : end]
        if marker == b"\xe1" and body.startswith(b"Exif\0\0") and orientation == UPRIGHT:
            orientation = _orientation(body[6:])
        if marker == b"\xe0":
            body = _JFIF if body.startswith(b"JFIF\0") else b""
            kept.append(b"\xff\xe0" + struct.pack(">H", 2 + len(body)) + body if body else b"")
        elif marker == b"\xee":
            is_adobe = body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES
            kept.append(data[start:end] if is_adobe else b"")
        elif not (b"\xe1" <= marker <= b"\xef" or marker == b"\xfe"):
            kept.append(data[start:end])
        start = end
    return Picture(b"".join([*kept, data[start:]]), orientation)


def _webp_orientation(data: bytes) -> int:
    start = 12
    while start + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, start)
        if name == b"EXIF":
            return _orientation(data[start + 8 : start + 8 + length].removeprefix(b"Exif\0\0"))
        start += 8 + length + length % 2
    return UPRIGHT


def _orientation(exif: bytes) -> int:
    """Finds the orientation in EXIF, whatever else is in it; 1 if it says none that is valid."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, entry)
        if tag == _ORIENTATION:
            form = {1: "B", 3: "H", 4: "I"}.get(kind, "H")
            (value,) = struct.unpack_from(order + form, exif, entry + 8)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT

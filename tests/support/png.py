"""Parts of PNG files, made by hand."""

import struct
import zlib


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size, without its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def png_of(
    size: tuple[int, int], depth: int, kind: int, rows: bytes, transparent: tuple[int, ...] = ()
) -> bytes:
    """A PNG of `size` (width, height).

    Args:
      kind: PNG's number: 0 grey, 2 colour, 4 grey with alpha, 6 colour with alpha.
      rows: the pixels as they are packed, each row after a byte 0.
      transparent: the grey or the colour that stands for transparent.
    """
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    key = struct.pack(f">{len(transparent)}H", *transparent)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"tRNS", key) if transparent else b"",
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )

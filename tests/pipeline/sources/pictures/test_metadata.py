"""What holds no pixels cannot stop a picture, and of EXIF only the orientation counts."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from png import chunk

from pipeline.sources import Request
from pipeline.sources.pictures.decode import decode

AS_IT_IS = Request(("x",))
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
PHOTO = np.stack([np.kron(GREY, np.ones((8, 8), np.uint8))] * 3, axis=-1)


def file_of(pixels: np.ndarray, kind: str, **options) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def exif(*entries: tuple[int, int, int, int], order: str = ">") -> bytes:
    """EXIF of entries (tag, type, count, value)."""
    packed = b"".join(
        struct.pack(f"{order}HHI", *entry[:3])
        + struct.pack(order + ("H2x" if entry[1] == 3 else "I"), entry[3])
        for entry in entries
    )
    start = b"MM\0*" if order == ">" else b"II*\0"
    return start + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


ODD_TAGS = [(0x0103, 99, 1 << 30, 7), (0x011A, 5, 1, 1 << 31)]
JPEG = file_of(PHOTO, "JPEG")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_among_odd_tags(order, number):
    odd = exif(*ODD_TAGS, (0x0112, 3, 1, number), (0x8769, 4, 1, 1 << 30), order=order)
    turned = with_segments(JPEG, segment(0xE1, b"Exif\0\0" + odd))
    plain = Image.open(io.BytesIO(JPEG))
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    expected = plain.transpose(transposed[number]) if number > 1 else plain
    np.testing.assert_array_equal(decode(turned, AS_IT_IS), np.asarray(expected))


@pytest.mark.parametrize(
    "segments",
    [
        [segment(0xE1, b"Exif\0\0")],
        [segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")],
        [segment(0xE1, b"Exif\0\0" + exif((0x0112, 3, 1, 6))[:-12])],
        [segment(0xE1, b"Exif\0\0" + exif((0x0112, 3, 1, 0)))],
        [segment(0xE1, b"Exif\0\0" + exif((0x0112, 3, 1, 9)))],
        [segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000))] * 20,
        [segment(0xE2, b"ICC_PROFILE\0\3\1not a profile")],
        [segment(0xE2, b"MPF\0not one")],
        [segment(0xED, b"Photoshop 3.0\x008BIM\xff")],
        [segment(0xEE, b"Adobe")],
        [segment(0xE0, b"JFIF\0")],
        [segment(0xFE, bytes(65_000))] * 40,
    ],
)
def test_odd_segments_change_nothing(segments):
    np.testing.assert_array_equal(
        decode(with_segments(JPEG, *segments), AS_IT_IS), decode(JPEG, AS_IT_IS)
    )


def test_cmyk_stays_as_adobe_stores_it():
    data = Image.fromarray(PHOTO).convert("CMYK")
    data.save(buffer := io.BytesIO(), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(decode(buffer.getvalue(), AS_IT_IS), expected)


@pytest.mark.parametrize("exif_of", [lambda data: data, lambda data: b"Exif\0\0" + data])
def test_webp_is_turned_in_spite_of_odd_tags(exif_of):
    odd = exif(*ODD_TAGS, (0x0112, 3, 1, 6))
    data = file_of(PHOTO, "WEBP", lossless=True, exif=exif_of(odd))
    np.testing.assert_array_equal(decode(data, AS_IT_IS), np.rot90(PHOTO, -1))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0" + bytes(2 << 20)),
        chunk(b"zTXt", b"Comment\0\0not zlib"),
        chunk(b"iCCP", b"profile\0\0not zlib"),
        chunk(b"tEXt", b"Comment\0x")[:-4] + b"oops",
        chunk(b"gAMA", b""),
        chunk(b"pHYs", b"1"),
        chunk(b"eXIf", b"MM\0*"),
    ],
)
def test_odd_chunks_change_nothing(extra):
    data = file_of(GREY, "PNG")
    np.testing.assert_array_equal(decode(data[:33] + extra + data[33:], AS_IT_IS), GREY)


def test_the_checksum_of_the_end_holds_no_pixels():
    np.testing.assert_array_equal(decode(file_of(GREY, "PNG")[:-4] + bytes(4), AS_IT_IS), GREY)

"""Image files to arrays: the rule for every mode, and every reason for a rejection."""

import io
import struct
import sys

import numpy as np
import pytest
import sets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from png import chunk, png_header, png_of

from pipeline.sources import Request
from pipeline.sources.formats import image_formats_text
from pipeline.sources.pictures.decode import Unreadable, decode, from_array

AS_IT_IS = Request(("x",))
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_grey_is_one_channel(kind):
    np.testing.assert_array_equal(decode(sets.encoded(GREY, kind), AS_IT_IS), GREY)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_colour_is_three(kind):
    np.testing.assert_array_equal(decode(sets.encoded(COLOUR, kind), AS_IT_IS), COLOUR)


def test_webp_without_loss():
    data = file_of(Image.fromarray(COLOUR), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(data, AS_IT_IS), COLOUR)


def test_jpeg_within_its_loss():
    flat = np.full((16, 16), 200, np.uint8)
    assert np.abs(decode(sets.encoded(flat, "JPEG"), AS_IT_IS).astype(int) - 200).max() <= 2


def test_palette_of_greys_becomes_colour_too():
    decoded = decode(sets.encoded(GREY, "GIF"), AS_IT_IS)
    np.testing.assert_array_equal(decoded, np.stack([GREY] * 3, axis=-1))


def test_first_frame_of_a_gif():
    frames = [Image.fromarray(np.full((3, 4), value, np.uint8)) for value in (10, 200)]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, AS_IT_IS).reshape(-1)[0] == 10


def test_deep_pixels_keep_their_high_byte():
    deep = np.array([[0, 255, 256], [32_767, 65_279, 65_535]], np.uint16)
    np.testing.assert_array_equal(decode(sets.encoded(deep), AS_IT_IS), deep >> 8)


def test_transparency_is_laid_over_black():
    pixels = np.full((1, 3, 4), 200, np.uint8)
    pixels[0, :, 3] = (0, 128, 255)
    decoded = decode(sets.encoded(pixels), AS_IT_IS)
    assert decoded.shape == (1, 3, 3)
    assert decoded[0, :, 0].tolist() == [0, 100, 200]


def test_transparent_grey_stays_grey():
    image = Image.merge("LA", [Image.new("L", (2, 1), 200), Image.new("L", (2, 1), 128)])
    assert decode(file_of(image), AS_IT_IS).tolist() == [[100, 100]]


def test_palette_becomes_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(file_of(image), AS_IT_IS).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_one_bit_becomes_black_and_white():
    image = Image.fromarray(GREY > 100)
    np.testing.assert_array_equal(decode(file_of(image), AS_IT_IS), (GREY > 100) * 255)


def test_cmyk_becomes_colour():
    data = file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    np.testing.assert_array_equal(decode(data, AS_IT_IS), np.full((8, 8, 3), 255))


def test_upright_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # the top row is on the right
    data = file_of(Image.new("L", (16, 8)), "JPEG", exif=exif)
    assert decode(data, AS_IT_IS).shape == (16, 8)


def test_grayscale_weighs_the_colours():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    grey = decode(sets.encoded(pixels), Request(("x",), color="gray"))
    assert grey.tolist() == [[76, 150, 29]]


def test_shrinking_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (16, 8))
    small = decode(sets.encoded(stripes), Request(("x",), image_size=(4, 4)))
    assert small.shape == (4, 4)
    assert 100 < small.min() <= small.max() < 155


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("stretch", (4, 4), [[0, 0, 255, 255]] * 4),
        ("crop", (4, 4), [[0, 0, 255, 255]] * 4),
        ("crop", (4, 2), [[0, 255]] * 4),
        ("pad", (4, 4), [[0] * 4, [0, 0, 255, 255], [0, 0, 255, 255], [0] * 4]),
        ("pad", (2, 8), [[0, 0, 0, 0, 255, 255, 0, 0]] * 2),
    ],
)
def test_other_aspect_ratios(resize, size, expected):
    """Of an image twice as wide as high, black to the left and white to the right."""
    halves = np.repeat(np.array([[0, 255]], np.uint8), 32, axis=1).repeat(32, axis=0)
    request = Request(("x",), image_size=size, resize=resize)
    found = decode(sets.encoded(halves), request)
    np.testing.assert_allclose(found, expected, atol=40)  # the edge is antialiased


def test_heic():
    import pillow_heif

    image = Image.fromarray(np.full((64, 48, 3), 90, np.uint8))
    pillow_heif.from_pillow(image).save(buffer := io.BytesIO(), quality=-1)
    decoded = decode(buffer.getvalue(), AS_IT_IS)
    assert decoded.shape == (64, 48, 3)
    assert np.abs(decoded.astype(int) - 90).max() <= 2
    with pytest.raises(Unreadable, match="damaged: "):
        decode(buffer.getvalue()[:-100], AS_IT_IS)


def test_heic_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        Unreadable, match=r"a HEIF image, which needs: pip install 'kmeans-job\[hei"
    ):
        decode(b"\0\0\0\x18ftypheic", AS_IT_IS)


@pytest.mark.parametrize("kind", ["AVIF", "TIFF"])
def test_upright_by_exif_of_other_formats(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(file_of(Image.new("RGB", (32, 16)), kind, exif=exif), AS_IT_IS).shape == (
        32,
        16,
        3,
    )


def test_size_is_height_by_width():
    assert decode(sets.encoded(COLOUR), Request(("x",), image_size=(5, 9))).shape == (5, 9, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", f"not a {image_formats_text()} image"),
        (png_header(50_000, 50_000), "more than 67,108,864 pixels"),
        (png_header(8193, 8193), "more than 67,108,864 pixels"),
        (png_header(10, 10), "damaged: it ends before its last chunk"),
        (png_header(10, 10) + chunk(b"IEND", b""), "damaged: image file is truncated"),
        (sets.encoded(COLOUR)[:30], "damaged: no header"),
        (sets.encoded(COLOUR)[:60], "damaged: it ends before"),
        (sets.encoded(COLOUR)[:-4], "damaged: it ends before"),
        (sets.encoded(NOISE, "JPEG")[:-200], "damaged: image file is truncated"),
        (sets.encoded(GREY, "ICO"), f"not a {image_formats_text()} image"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(Unreadable) as caught:
        decode(data, AS_IT_IS)
    assert str(caught.value).startswith(reason)


@given(st.binary(max_size=100), st.integers(0, 200))
def test_damage_is_always_a_reason_and_the_same_each_time(noise, position):
    sound = sets.encoded(COLOUR)
    data = sound[:position] + noise + sound[position + len(noise) :]
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(decode(data, AS_IT_IS).tolist())
        except Unreadable as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert "0x" not in str(outcomes[0])


def test_memory_that_runs_out_is_no_reason(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("pipeline.sources.pictures.decode._resized", fail)
    with pytest.raises(MemoryError):
        decode(sets.encoded(GREY), AS_IT_IS)


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 5), (3,)])
def test_arrays_that_are_no_image(shape):
    with pytest.raises(Unreadable, match="which is no image"):
        from_array(np.zeros(shape, np.uint8), AS_IT_IS)


@pytest.mark.parametrize(
    ("depth", "rows", "transparent", "expected"),
    [
        (1, b"\0\xa0", 1, [0, 0, 0, 0]),
        (1, b"\0\xa0", 0, [255, 0, 255, 0]),
        (2, b"\0\x1b", 2, [0, 85, 0, 255]),
        (2, b"\0\x1b", 3, [0, 85, 170, 0]),
        (4, b"\0\x1f\x3f", 1, [0, 255, 51, 255]),
        (8, b"\0\1\2\3\4", 3, [1, 2, 0, 4]),
        (16, b"\0" + struct.pack(">4H", 0x1234, 0x12FF, 0xFFFF, 256), 0x1234, [0, 18, 255, 1]),
    ],
)
def test_transparent_grey_of_every_depth(depth, rows, transparent, expected):
    data = png_of((4, 1), depth, 0, rows, (transparent,))
    assert decode(data, AS_IT_IS).tolist() == [expected]


def test_a_transparent_colour_of_8_bits():
    data = png_of((2, 1), 8, 2, b"\0\1\2\3\1\2\4", (1, 2, 3))
    assert decode(data, AS_IT_IS).tolist() == [[[0, 0, 0], [1, 2, 4]]]


def test_a_transparent_colour_of_16_bits_is_compared_whole():
    colours = [(0x1201, 0x3402, 0x5603), (0x1201, 0x3402, 0x5604)]
    rows = b"\0" + b"".join(struct.pack(">3H", *colour) for colour in colours)
    data = png_of((2, 1), 16, 2, rows, colours[0])
    assert decode(data, AS_IT_IS).tolist() == [[[0, 0, 0], [0x12, 0x34, 0x56]]]


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_alpha_stays_grey(depth):
    scale, form = (1, "B") if depth == 8 else (257, "H")
    values = [value * scale for value in (200, 255, 200, 0, 200, 128)]
    data = png_of((3, 1), depth, 4, b"\0" + struct.pack(f">6{form}", *values))
    assert decode(data, AS_IT_IS).tolist() == [[200, 0, 100]]


@pytest.mark.parametrize("depth", [8, 16])
def test_colour_with_alpha_is_laid_over_black(depth):
    scale, form = (1, "B") if depth == 8 else (257, "H")
    values = [value * scale for value in (200, 100, 50, 128)]
    data = png_of((1, 1), depth, 6, b"\0" + struct.pack(f">4{form}", *values))
    assert decode(data, AS_IT_IS).tolist() == [[[100, 50, 25]]]

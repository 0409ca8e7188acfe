"""Image files to arrays: decoding, colours, sizes. The one module here that imports Pillow.

The first frame of an image is taken and turned upright (EXIF); palettes, CMYK and the like become
RGB; 16-bit pixels keep their high byte; transparency is laid over black; grey stays one channel.
"""

import contextlib
import io
import math
import re
import threading
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError, install_hint
from pipeline.shards.thumbnails import thumbnail_of
from pipeline.sources.formats import IMAGE_FORMATS, image_formats_text
from pipeline.sources.pictures.metadata import PngHeader, jpeg_channels, picture_in, png_header
from pipeline.sources.protocol import CROP, GRAY, MAX_PIXELS, PAD, RGB, Request

_PILLOW_FORMATS = tuple(name.upper() for name in IMAGE_FORMATS if name != "HEIF")
# How an image gets another aspect ratio, where it is not stretched. Padding is black.
_RESIZES: dict[str, Any] = {CROP: ImageOps.fit, PAD: ImageOps.pad}
_PNG_START = b"\x89PNG\r\n"
# By EXIF's orientation: what turns an image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_HEIF = re.compile(rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
# Of the images that take hundreds of MB, the threads of a process decode one at a time.
_HUGE_PIXELS = MAX_PIXELS // 2
_turn_of_huge, _no_turn = threading.Lock(), contextlib.nullcontext()
_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")


# Pixels, and a thumbnail where the request asks for that of the original.
Shown = tuple[np.ndarray, bytes | None]


class Unreadable(Exception):
    """Raised for an image that is to be rejected; the text is the reason."""


def decode(data: bytes, request: Request) -> np.ndarray:
    """Decodes the content of an image file to uint8 [h, w] or [h, w, 3], as the request asks.

    Raises:
      Unreadable: it is no image, or a damaged or an oversized one.
    """
    return decode_and_show(data, request)[0]


def decode_and_show(data: bytes, request: Request) -> Shown:
    """Decodes the content of an image file, and makes the thumbnail that the request asks for.

    Raises:
      Unreadable: it is no image, or a damaged or an oversized one.
    """
    if not data:
        raise Unreadable("empty file")
    try:
        picture = picture_in(data)
        with _opened(picture.data) as opened:
            _check_size(*opened.size)
            # Pillow reads a PNG file that was cut short without an error.
            if not picture.is_whole:
                raise Unreadable("damaged: it ends before its last chunk")
            with _turn_of_huge if math.prod(opened.size) > _HUGE_PIXELS else _no_turn:
                turn = _TURNS.get(_orientation_of_avif(opened) or picture.orientation)
                image = _eight_bits_of_png(opened, picture.data)
                return _shown(image if turn is None else image.transpose(turn), request)
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_PNG_START):
            raise Unreadable("damaged: no header") from error
        raise Unreadable(f"not a {image_formats_text()} image") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise anything when a file is damaged
        text = re.sub(r" object at 0x[0-9a-f]+", "", " ".join(str(error).split()))
        raise Unreadable(f"damaged: {text or type(error).__name__}") from error


def is_grey(content: object) -> bool:
    """Whether an image is surely grey, by its header or its array; it may be damaged all the same.

    Args:
      content: the beginning of an image file, or pixels.
    """
    if isinstance(content, np.ndarray):
        return content.dtype == np.uint8 and content.shape[2:] in ((), (1,)) and content.ndim > 1
    if not isinstance(content, bytes):
        return False
    if header := png_header(content):
        return header.is_grey
    if (channels := jpeg_channels(content)) is not None:
        return channels == 1
    try:
        with _opened(content) as image:
            return image.mode in (*_GREY, *_DEEP)
    except Exception:  # whatever a decoder raises, which `decode` gives as a reason
        return False


def _opened(data: bytes) -> Image.Image:
    """Opens an image file of one of IMAGE_FORMATS, whatever its name."""
    if not _HEIF.match(data):
        return Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    try:
        # Not registered with Pillow, which would change what others in the process read.
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise Unreadable(f"a HEIF image, which needs: {install_hint('heic')}") from error
    return HeifImageFile(io.BytesIO(data))


def _orientation_of_avif(image: Image.Image) -> int | None:
    """Returns EXIF's orientation of an AVIF image; None for others, and where there is none."""
    return image.getexif().get(_ORIENTATION) if image.format == "AVIF" else None


def from_array(pixels: np.ndarray, request: Request) -> np.ndarray:
    """Converts decoded pixels, uint8 [h, w] or [h, w, 1, 3 or 4], to what `decode` returns.

    Raises:
      Unreadable: pixels of that shape are no image.
    """
    return show_array(pixels, request)[0]


def show_array(pixels: np.ndarray, request: Request) -> Shown:
    """Converts decoded pixels, as `from_array`, to what `decode_and_show` returns.

    Raises:
      Unreadable: pixels of that shape are no image.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise Unreadable(f"pixels of shape {shape_text(pixels.shape)}, which is no image")
    return _shown(Image.fromarray(pixels), request)


def _shown(image: Image.Image, request: Request) -> Shown:
    """Converts an image to the requested colours and size: uint8 [h, w] or [h, w, 3]."""
    image = _eight_bits(image)
    if wanted := {GRAY: "L", RGB: "RGB"}.get(request.color):
        image = image if image.mode == wanted else image.convert(wanted)
    pixels = np.asarray(_resized(image, request))
    return pixels, thumbnail_of(image, request.thumbnails) if request.shows_originals else None


def _resized(image: Image.Image, request: Request) -> Image.Image:
    height, width = request.image_size or request.default_size or image.size[::-1]
    if image.size == (width, height):
        return image
    resize = _RESIZES.get(request.resize, Image.Image.resize)
    return resize(image, (width, height), Image.Resampling.BILINEAR)


def check_convertible(shape: tuple[int, ...], dtype: str, request: Request) -> None:
    """Raises UserError if a conversion is requested of images that cannot be converted."""
    if not request.converts:
        return
    try:
        if dtype != "uint8":
            raise Unreadable(f"{dtype} of shape {shape_text(shape)}")
        from_array(np.zeros(shape, np.uint8), request)
    except Unreadable as error:
        raise UserError(
            f"--image-size, --color: {request} holds {error}; only uint8 images can be converted"
        ) from error


def shape_text(shape: tuple[int, ...]) -> str:
    """Writes a shape as people do: 28 × 28 × 3."""
    return " × ".join(map(str, shape))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels")


def _eight_bits_of_png(image: Image.Image, data: bytes) -> Image.Image:
    """Makes transparent pixels black and keeps grey grey where Pillow's modes do not tell.

    Pillow compares the transparent grey or colour of a PNG file with pixels that it has scaled from
    1, 2 or 4 bits, or cut to 8, and it reads deep grey with alpha as colour.
    """
    header = png_header(data)
    if header is None:
        return image
    if header.key:
        clear = _clear(image, data, header)
        image.info.pop("transparency", None)
        pixels = np.array(_eight_bits(image))
        pixels[clear] = 0
        return Image.fromarray(pixels)
    return _eight_bits(image).convert("L") if header.is_grey else image


def _clear(image: Image.Image, data: bytes, header: PngHeader) -> np.ndarray:
    """Finds the pixels [h, w] that are transparent because they equal the key of the file."""
    pixels = np.asarray(image).astype(np.int64)
    key = np.array(header.key)
    if header.is_grey:
        # Pillow has spread the levels of 1, 2 or 4 bits over 0 … 255, or 0 … 1 for one bit.
        top = {1: 1, 16: 1}.get(header.depth, 255 // ((1 << header.depth) - 1))
        return pixels == key[0] * top
    if header.depth == 16:
        # Pillow cuts colours to their high bytes; read as of the other byte order, to the low ones.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as low:
            low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
            pixels = pixels << 8 | np.asarray(low)
    return (pixels == key).all(axis=-1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Converts an image to mode L or RGB."""
    if image.mode in _DEEP:
        # Not by Pillow, whose conversion to L clips some of these modes to 255.
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray((deep.clip(0, 65_535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("pixels are floats, of a range nobody knows")
    mode = "L" if image.mode in _GREY else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    return image if image.mode == mode else image.convert(mode)

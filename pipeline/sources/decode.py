"""Image files to arrays: decoding, colours, sizes. The only place that knows Pillow.

What becomes of an image: its first frame, upright (EXIF); palettes, CMYK and the like become RGB;
16-bit pixels keep their high byte; transparency is laid over black; grey stays one channel.
"""

import dataclasses
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Planned, Rejection, Request

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 1 << 26
_PNG_START = b"\x89PNG\r\n"
_PNG_END = b"IEND\xaeB`\x82"
_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class Unreadable(Exception):
    """An image that is to be rejected; the text is the reason."""


def decode(data: bytes, request: Request) -> np.ndarray:
    """An image file's content as uint8 [h, w] or [h, w, 3].

    Raises:
      Unreadable: it is no image, or a damaged or an oversized one.
    """
    if not data:
        raise Unreadable("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_size(*opened.size)
            if opened.format == "PNG" and _PNG_END not in data:  # Pillow does not mind
                raise Unreadable("damaged: it ends before its last chunk")
            upright = opened if opened.format == "PNG" else ImageOps.exif_transpose(opened)
            return convert(upright, request)
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_PNG_START):
            raise Unreadable("damaged: no header") from error
        raise Unreadable("not a PNG, JPEG, BMP, GIF or WebP image") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # a damaged file can raise whatever its decoder did not expect
        text = re.sub(r" object at 0x[0-9a-f]+", "", " ".join(str(error).split()))
        raise Unreadable(f"damaged: {text or type(error).__name__}") from error


def from_array(pixels: np.ndarray, request: Request) -> np.ndarray:
    """Decoded pixels, uint8 [h, w] or [h, w, 1, 3 or 4], as `decode` would give them."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise Unreadable(f"pixels of shape {shape_text(pixels.shape)}, which is no image")
    return convert(Image.fromarray(pixels), request)


def convert(image: Image.Image, request: Request) -> np.ndarray:
    """An image in the colours and of the size that were asked for: uint8 [h, w] or [h, w, 3]."""
    image = _eight_bits(image)
    if request.grayscale and image.mode != "L":
        image = image.convert("L")
    if request.image_size:
        height, width = request.image_size
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def check_convertible(shape: tuple[int, ...], dtype: str, request: Request) -> None:
    """Raises UserError if images are to be converted, but those of `shape` and `dtype` cannot."""
    if not request.image_size and not request.grayscale:
        return
    try:
        if dtype != "uint8":
            raise Unreadable(f"{dtype} of shape {shape_text(shape)}")
        from_array(np.zeros(shape, np.uint8), request)
    except Unreadable as error:
        raise UserError(
            f"--image-size, --grayscale: {request} holds {error}; "
            "only uint8 images can be converted"
        ) from error


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it: 28 × 28 × 3."""
    return " × ".join(map(str, shape))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode in _DEEP:
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


@dataclasses.dataclass(frozen=True)
class Converted:
    """A set of decoded images in the colours and of the size that were asked for."""

    source: Planned
    image_shape: tuple[int, ...]

    @property
    def request(self) -> Request:
        return self.source.request

    @property
    def num_images(self) -> int:
        return self.source.num_images

    @property
    def dtype(self) -> str:
        return self.source.dtype

    @property
    def label_names(self) -> tuple[str, ...] | None:
        return self.source.label_names

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection]:
        rows = plan.block_rows(math.prod(self.image_shape))
        for found in self.source.read(piece):
            if isinstance(found, Rejection):
                yield found
                continue
            # Enlarged images would make a block too large.
            for a, b in plan.spans(0, len(found.ids), rows):
                labels = None if found.labels is None else found.labels[a:b]
                yield Block(found.ids[a:b], labels, self._convert(found.pixels[a:b]))

    def _convert(self, pixels: np.ndarray) -> np.ndarray:
        images: Any = pixels.reshape(len(pixels), *self.source.image_shape)
        return np.stack([from_array(image, self.request).reshape(-1) for image in images])


def converted(source: Planned) -> Converted:
    """`source` in the colours and of the size that its request asks for."""
    check_convertible(source.image_shape, source.dtype, source.request)
    sample = from_array(np.zeros(source.image_shape, np.uint8), source.request)
    return Converted(source, sample.shape)

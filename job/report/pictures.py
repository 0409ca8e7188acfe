"""Converts images, which are flat rows, to pictures for a page, which are data URIs."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from pipeline.shards import thumbnails

COLOUR_QUALITY = 80
SHEET_QUALITY = 50  # by WebP's fastest method: method 4 takes twice the time for 3 % less bytes
# Of all members, and of all centroids: so that even a page of pure noise is below 5 MiB.
MAX_PIXELS, MAX_CENTROID_PIXELS = 2_800_000, 560_000
CENTROID_USES = 4  # pictures of each centroid in a page
MIN_SIDE, MAX_SIDE = 16, 96  # pixels of a shrunk picture's longer side
GREY_LEVEL = 3  # of zlib: its default takes longer for 2 % less bytes


def as_pictures(pixels: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Converts flat images [m, d] to pictures: uint8 [m, h, w], or [m, h, w, 3] in colour.

    uint8 pixels are shown as they are, floats between 0 (black) and 1 (white); what lies outside
    is clipped. Of four channels or more the first three are shown, of two the first.
    """
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    pictures = pixels.reshape(len(pixels), *image_shape)
    if pictures.ndim == 3:
        return pictures
    return pictures[..., :3] if pictures.shape[-1] >= 3 else pictures[..., 0]


def data_uri(picture: np.ndarray, side: int) -> str:
    """Encodes a picture, uint8 [h, w] or [h, w, 3], shrunk to at most `side` pixels a side.

    Grey is PNG, exact unless shrunk; colour is WebP, a fifth of a PNG's size on photographs.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.BOX)
    file = io.BytesIO()
    if image.mode != "L":
        image.save(file, "WEBP", quality=COLOUR_QUALITY, method=6)
        return _uri("webp", file.getvalue())
    image.save(file, "PNG", compress_level=GREY_LEVEL)
    return _uri("png", file.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def png(picture: np.ndarray) -> bytes:
    """Encodes a picture, uint8 [h, w] or [h, w, 3], as a PNG file, exact."""
    Image.fromarray(np.ascontiguousarray(picture)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def brightened(pixels: np.ndarray) -> np.ndarray:
    """Scales float pixels to 0 … 1 where their range is wider; uint8 stays as it is."""
    low, high = display_range(pixels[:1], pixels)
    return pixels if (low, high) == (0.0, 1.0) else (pixels - low) / (high - low)


def sheet(drawn: np.ndarray, size: tuple[int, int], columns: int) -> str:
    """Draws pictures, uint8 [m, h, w] or [m, h, w, 3], side by side; a data URI of WebP.

    Args:
      size: width and height of each.
      columns: how many there are in a row.
    """
    (width, height), channels = size, drawn.shape[3:]
    # All at once, one below the other: one by one takes longer than encoding them.
    column = Image.fromarray(np.ascontiguousarray(drawn).reshape(-1, *drawn.shape[2:]))
    if drawn.shape[1:3] != (height, width):
        column = column.resize((width, len(drawn) * height), Image.Resampling.BOX)
    rows = math.ceil(len(drawn) / columns)
    cells = np.zeros((rows * columns, height, width, *channels), np.uint8)
    cells[: len(drawn)] = np.asarray(column).reshape(len(drawn), height, width, *channels)
    grid = cells.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    whole = Image.fromarray(grid.reshape(rows * height, columns * width, *channels))
    whole.convert("RGB").save(file := io.BytesIO(), "WEBP", quality=SHEET_QUALITY, method=0)
    return _uri("webp", file.getvalue())


def side_for(image_shape: Sequence[int], count: int, max_pixels: int) -> int:
    """Returns the longer side, in pixels, at which `count` pictures have `max_pixels` together."""
    height, width = image_shape[:2]
    scale = min(1.0, math.sqrt(max_pixels / (max(count, 1) * height * width)))
    return int(np.clip(max(height, width) * scale, MIN_SIDE, MAX_SIDE))


def photos_of(examples: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """Decodes the thumbnails of examples: uint8 [h, w] or [h, w, 3] each; None without them."""
    if "thumbnails" not in examples:
        return None
    return [thumbnails.decoded(one) for one in thumbnails.from_column(examples["thumbnails"])]


def photo_uris(photos: Sequence[np.ndarray]) -> list[str]:
    """Draws photos of any sizes, smaller if they are many, as data URIs."""
    side = side_for((MAX_SIDE, MAX_SIDE), len(photos), MAX_PIXELS)
    return [data_uri(photo, side) for photo in photos]


def fitted(photos: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Puts photos of any sizes into squares, uint8 [m, side, side, 3], the rest of them white."""
    squares = np.full((len(photos), side, side, 3), 255, np.uint8)
    for square, photo in zip(squares, photos, strict=True):
        small = Image.fromarray(photo).convert("RGB")
        small = ImageOps.contain(small, (side, side), Image.Resampling.BOX)
        left, top = (side - small.width) // 2, (side - small.height) // 2
        square[top : top + small.height, left : left + small.width] = np.asarray(small)
    return squares


def display_range(centroids: np.ndarray, pixels: np.ndarray) -> tuple[float, float]:
    """Returns the values shown as black and white: 0 and 1, or the floats' range if wider."""
    if pixels.dtype == np.uint8:
        return 0.0, 1.0
    low = min(0.0, float(centroids.min()), float(pixels.min(initial=0)))
    high = max(1.0, float(centroids.max()), float(pixels.max(initial=0)))
    return low, high


def centroids_and_members(
    centroids: np.ndarray, pixels: np.ndarray, image_shape: Sequence[int]
) -> tuple[list[str], list[str]]:
    """Draws centroids float32 [k, d] and members [m, d] equally bright, as data URIs."""
    low, high = display_range(centroids, pixels)
    if (low, high) != (0.0, 1.0):
        pixels = (pixels - low) / (high - low)
    drawn = as_pictures((centroids - low) / (high - low), image_shape)
    large = side_for(image_shape, CENTROID_USES * len(centroids), MAX_CENTROID_PIXELS)
    small = side_for(image_shape, len(pixels), MAX_PIXELS)
    return (
        [data_uri(picture, large) for picture in drawn],
        [data_uri(picture, small) for picture in as_pictures(pixels, image_shape)],
    )

"""From images that are read one by one to blocks of one shape."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import check_finite
from pipeline.sources.labels import Unnamed
from pipeline.sources.pictures.decode import (
    Shown,
    Unreadable,
    check_convertible,
    decode_and_show,
    is_grey,
    shape_text,
    show_array,
)
from pipeline.sources.pictures.threads import in_order
from pipeline.sources.protocol import AUTO, RGB, Request

_PROPOSED_PIXELS = 256  # longest side of the size that a message proposes
_SHOWN_SHAPES = 6


class Item(NamedTuple):
    """One image before it is decoded.

    Attributes:
      label: its number; −1: it has none.
      content: of an image file, or only its head; or pixels, uint8 or float32; or why there are
        none.
      weight: None in an unweighted set.
    """

    id: str
    label: int
    content: "bytes | Head | np.ndarray | Unreadable"
    weight: float | None = None


class Head(NamedTuple):
    """The beginning of an image file.

    Attributes:
      whole: reads the file, and yields its item.
    """

    data: bytes
    whole: Callable[[], Iterator[Item]]


class Row(NamedTuple):
    """One image.

    Attributes:
      label: its number; −1: it has none.
      pixels: uint8 [h, w] or [h, w, 3], or numbers of any shape.
      thumbnail: where the request asks for that of the original.
      weight: None in an unweighted set.
    """

    id: str
    label: int
    pixels: np.ndarray
    thumbnail: bytes | None = None
    weight: float | None = None


class Settled(NamedTuple):
    """What is the same for all images of a set.

    Attributes:
      color: that images are decoded with: as requested, or RGB where `auto` stands for it.
    """

    image_shape: tuple[int, ...]
    dtype: str
    color: str


class Decoding(Protocol):
    """What decides how the images of a source are decoded."""

    @property
    def request(self) -> Request: ...
    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def color(self) -> str: ...


def decoded(item: Item, request: Request, shape: tuple[int, ...] = ()) -> Row | Rejection:
    """Decodes an image as the request asks.

    Args:
      shape: that numbers must have; (): any.
    """
    try:
        found = _shown(item.content, request, shape)
        return Row(item.id, item.label, *found, item.weight)
    except Unreadable as error:
        return Rejection(item.id, str(error))


def _shown(
    content: bytes | Head | np.ndarray | Unreadable, request: Request, shape: tuple[int, ...]
) -> Shown:
    if isinstance(content, Unreadable):
        raise content
    if isinstance(content, Head):
        (item,) = content.whole()
        return _shown(item.content, request, shape)
    if isinstance(content, bytes):
        return decode_and_show(content, request)
    if content.dtype == np.uint8 and content.ndim > 1:
        return show_array(content, request)
    if shape and content.shape != shape:
        if content.ndim == len(shape) == 1:
            raise Unreadable(f"{len(content)} values instead of {shape[0]}")
        raise Unreadable(f"{shape_text(content.shape)} values instead of {shape_text(shape)}")
    return content, None


def settle(items: Iterable[Item | Unnamed], request: Request) -> Settled:
    """Finds what is the same for all images: the shape of the first one that can be read.

    Whether a set is grey depends on all images, whatever their order: so until one with colour is
    found, the header of each is looked at. A set of photos is settled by its first image, and
    `--color gray` or `rgb` by any.

    Raises:
      UserError: no image can be read, or images are to be converted that cannot be.
    """
    first: Row | None = None
    last: Row | None = None
    rejected: Rejection | None = None
    for item in items:
        if not isinstance(item, Item) or (first and _is_grey(item.content)):
            continue
        row = decoded(item, request)
        if isinstance(row, Rejection):
            rejected = rejected or row
            continue
        first, last = first or row, row
        if request.color != AUTO or not is_grey(row.pixels):
            break
    if first is None or last is None:
        raise UserError(_none_readable(rejected, request))
    shape, color = first.pixels.shape, request.color
    if color == AUTO and last.pixels.ndim == 3 and last.pixels.dtype == np.uint8:
        color, shape = RGB, (*shape[:2], 3)
    check_convertible(shape, first.pixels.dtype.name, request)
    return Settled(shape, first.pixels.dtype.name, color)


def _is_grey(content: bytes | Head | np.ndarray | Unreadable) -> bool:
    return is_grey(content.data if isinstance(content, Head) else content)


def _none_readable(rejected: Rejection | None, request: Request) -> str:
    if rejected is None:
        return f"--input {request}: 0 images; nothing to cluster"
    return f"--input {request}: no image can be read; the first, {rejected.id}: {rejected.reason}"


def blocks(
    items: Iterable[Item | Unnamed], source: Decoding, labelled: bool
) -> Iterator[Block | Rejection | Unnamed]:
    """Decodes images, on all cores, and yields them in blocks, and all else in its order.

    Raises:
      UserError: as `assemble`.
    """
    request = dataclasses.replace(source.request, color=source.color)
    shape = source.image_shape
    row_bytes = math.prod(shape) * np.dtype(source.dtype).itemsize

    def row_of(item: Item | Unnamed) -> Row | Rejection | Unnamed:
        return decoded(item, request, shape) if isinstance(item, Item) else item

    def num_bytes(item: Item | Unnamed) -> int:
        content = item.content if isinstance(item, Item) else None
        return row_bytes + (len(content) if isinstance(content, bytes) else 0)

    rows = in_order(row_of, items, num_bytes)
    return assemble(rows, shape, source.dtype, labelled, source.request)


def assemble(
    rows: Iterable[Row | Rejection | Unnamed],
    shape: tuple[int, ...],
    dtype: str,
    labelled: bool,
    request: Request,
) -> Iterator[Block | Rejection | Unnamed]:
    """Yields blocks of about 1 MiB of the images in `rows`, and all else in its order.

    Raises:
      UserError: images differ in shape; raised at the end, when each shape has been counted.
    """
    size = plan.images_per_block(math.prod(shape) * np.dtype(dtype).itemsize)
    shapes = collections.Counter({shape: 0})
    pending: list[Row] = []
    for row in rows:
        if not isinstance(row, Row):
            yield row
            continue
        shapes[row.pixels.shape] += 1
        if row.pixels.shape == shape:
            pending.append(row)
        if len(pending) == size:
            yield _block(pending, labelled, request)
            pending = []
    if shapes.keys() - {shape}:
        raise UserError(_different(shapes, request))
    if pending:
        yield _block(pending, labelled, request)


def _block(rows: list[Row], labelled: bool, request: Request) -> Block:
    """Makes a block of rows of one shape; raises UserError if a pixel is none."""
    ids = [row.id for row in rows]
    pixels = np.stack([row.pixels.reshape(-1) for row in rows])
    if pixels.dtype != np.uint8:
        check_finite(pixels, ids, str(request))
    labels = np.array([row.label for row in rows], np.int64) if labelled else None
    weights = np.array([row.weight for row in rows]) if request.wants_weights else None
    thumbnails = [row.thumbnail for row in rows if row.thumbnail is not None]
    whole = thumbnails if len(thumbnails) == len(rows) else None
    return Block(ids, labels, pixels, whole, weights)


def _different(shapes: collections.Counter[tuple[int, ...]], request: Request) -> str:
    """Writes the message about images of several `shapes`, with the flags that make them one."""
    ordered = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))
    seen = [f"{count:,} of {shape_text(shape)}" for shape, count in ordered[:_SHOWN_SHAPES]]
    if len(ordered) > _SHOWN_SHAPES:
        seen.append(f"… ({len(ordered):,} shapes)")
    flags = []
    if len({shape[:2] for shape in shapes}) > 1:
        flags.append(f"--image-size {_proposed(ordered[0][0])}")
    if len({shape[2:] for shape in shapes}) > 1:
        flags.append("--color gray")
    return (
        f"--input {request}: images of different shapes: {', '.join(seen)}; "
        f"add {' and '.join(flags)}"
    )


def _proposed(shape: tuple[int, ...]) -> str:
    """Proposes a size for a set whose most frequent shape is `shape`."""
    height, width = shape[0], shape[1] if len(shape) > 1 else 1
    scale = min(1.0, _PROPOSED_PIXELS / max(height, width))
    return f"{max(1, round(height * scale))}x{max(1, round(width * scale))}"

"""Assembles images that are decoded one by one to blocks of one shape."""

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import check_finite
from pipeline.sources.decode import Unreadable, shape_text
from pipeline.sources.labels import Unnamed
from pipeline.sources.protocol import Request

FLOAT_KEYS = ("image", "features", "embedding")  # fields that may hold a row of floats


class Row(NamedTuple):
    """One image.

    Attributes:
      label: its number; −1: it has none.
      pixels: uint8 [h, w] or [h, w, 3], or float32 [d].
    """

    id: str
    label: int
    pixels: np.ndarray


def read_row(image_id: str, label: int, pixels: Callable[[], np.ndarray]) -> Row | Rejection:
    """Makes a row with the result of `pixels`, or a rejection if that raises Unreadable."""
    try:
        return Row(image_id, label, pixels())
    except Unreadable as error:
        return Rejection(image_id, str(error))


def first_row(rows: Iterable[Row | Rejection | Unnamed], request: Request) -> Row:
    """Returns the first image that can be read: its shape and dtype are those of the set.

    Raises:
      UserError: there is none.
    """
    rejected = None
    for row in rows:
        if isinstance(row, Row):
            return row
        if isinstance(row, Rejection):
            rejected = rejected or row
    if rejected is None:
        raise UserError(f"--input {request}: 0 images; nothing to cluster")
    raise UserError(
        f"--input {request}: no image can be read; the first, {rejected.id}: {rejected.reason}"
    )


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
    if not labelled:
        return Block(ids, None, pixels)
    return Block(ids, np.array([row.label for row in rows], np.int64), pixels)


def _different(shapes: collections.Counter[tuple[int, ...]], request: Request) -> str:
    """Writes the message about images of several `shapes`, with the flags that make them one."""
    seen = ", ".join(
        f"{count:,} of {shape_text(shape)}"
        for shape, count in sorted(shapes.items(), key=lambda item: (-item[1], item[0]))
    )
    flags = []
    if len({shape[:2] for shape in shapes}) > 1:
        flags.append("--image-size HxW")
    if len({shape[2:] for shape in shapes}) > 1:
        flags.append("--grayscale")
    return f"--input {request}: images of different shapes: {seen}; add {' and '.join(flags)}"

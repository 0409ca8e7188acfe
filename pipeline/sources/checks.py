"""Checks of arrays of images and labels, and names of images and labels, for every format."""

import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from pipeline import storage
from pipeline.errors import UserError

MAX_PIXEL = 255  # of uint8


def check_images(shape: tuple[int, ...], where: str) -> None:
    """Raises UserError unless an array of `shape` is a set of images."""
    if not 2 <= len(shape) <= 4:
        raise UserError(
            f"{where}: an array of rank {len(shape)}, shape {shape}; images are n × h × w, "
            "n × h × w × c, or n × d flattened"
        )
    if 0 in shape:
        raise UserError(f"{where}: 0 images or pixels (shape {shape}); nothing to cluster")


def stored_dtype(dtype: np.dtype, limits: Callable[[], tuple[int, int]], where: str) -> str:
    """Returns the dtype that pixels of `dtype` are stored with: uint8 or float32.

    Floats become float32. Booleans and integers become uint8 if all of them fit.

    Args:
      limits: returns the least and the largest pixel; called only for other integers than uint8.

    Raises:
      UserError: there is none that would keep the values.
    """
    if dtype == np.uint8 or dtype.kind == "b":
        return "uint8"
    if dtype.kind == "f":
        return "float32"
    if dtype.kind not in "iu":
        raise UserError(f"{where}: dtype {dtype}; images are uint8 or float32")
    low, high = limits()
    if low >= 0 and high <= MAX_PIXEL:
        return "uint8"
    raise UserError(
        f"{where}: {dtype} values {low} … {high}; images are uint8, 0 … {MAX_PIXEL}, or float32: "
        f"scale them to 0 … {MAX_PIXEL} before x.astype('uint8'), or keep them as they are with "
        "x.astype('float32')"
    )


def check_label_shape(shape: tuple[int, ...], num_images: int, where: str) -> None:
    """Raises UserError unless an array of `shape` has a row for each image."""
    if not shape or shape[0] != num_images:
        raise UserError(
            f"{where}: labels of shape {shape} for {num_images} images; give one for each image, "
            f"shape ({num_images},)"
        )


def check_weight_shape(shape: tuple[int, ...], num_images: int, where: str) -> None:
    """Raises UserError unless an array of `shape` has a row for each image."""
    if not shape or shape[0] != num_images:
        raise UserError(
            f"{where}: weights of shape {shape} for {num_images} images; give one for each image, "
            f"shape ({num_images},)"
        )


def check_finite(pixels: np.ndarray, ids: list[str], where: str) -> None:
    """Raises UserError, naming the image, if any of `pixels` [B, d] is NaN or infinite."""
    good = np.isfinite(pixels).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        value = pixels[row][~np.isfinite(pixels[row])][0]
        raise UserError(f"{where}: image {ids[row]} has a pixel that is {value}; remove or mend it")


def digit_names(num_labels: int) -> tuple[str, ...]:
    """Names labels that have no other name: "0", "1", …"""
    return tuple(map(str, range(num_labels)))


def text_of(name: bytes) -> str:
    r"""Returns a name as text; two different names never become the same text.

    Bytes that are not UTF-8 are written out: 0xff as `\xff`. A backslash that would look like the
    beginning of such an escape is written out itself, as `\x5c`.
    """
    return re.sub(rb"\\(?=x[0-9a-f]{2})", rb"\\x5c", name).decode("utf-8", "backslashreplace")


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns paths relative to the innermost folder that holds all of them.

    Ids begin with them, so that they are short and yet differ between files.
    """
    base = storage.common_folder(paths)
    return [text_of(os.fsencode(storage.relative(path, base))) for path in paths]

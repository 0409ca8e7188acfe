"""Checks of arrays of images and labels, and names of images and labels, for every format."""

from collections.abc import Sequence

import numpy as np

from pipeline import storage
from pipeline.errors import UserError

MAX_LABEL = 65_535


def check_images(shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Raises UserError unless an array of `shape` and `dtype` is a set of images."""
    if not 2 <= len(shape) <= 4:
        raise UserError(
            f"{where}: an array of rank {len(shape)}, shape {shape}; images are n × h × w, "
            "n × h × w × c, or n × d flattened"
        )
    if 0 in shape:
        raise UserError(f"{where}: 0 images or pixels (shape {shape}); nothing to cluster")
    if dtype not in (np.dtype("uint8"), np.dtype("<f4")):
        raise UserError(
            f"{where}: dtype {dtype}; images are uint8 or float32: convert with "
            "x.astype('uint8') or x.astype('float32')"
        )


def check_labels(labels: np.ndarray, num_images: int, where: str) -> np.ndarray:
    """Returns labels as int64 [n]; raises UserError unless there is one from 0 for each image."""
    if labels.size != num_images or labels.shape[0] != num_images:
        raise UserError(f"{where}: {len(labels)} labels for {num_images} images")
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > MAX_LABEL:
        raise UserError(
            f"{where}: labels of dtype {labels.dtype}; integers 0 … {MAX_LABEL} are needed"
        )
    return labels.astype(np.int64)


def check_finite(pixels: np.ndarray, ids: list[str], where: str) -> None:
    """Raises UserError, naming the image, if any of `pixels` [B, d] is NaN or infinite."""
    good = np.isfinite(pixels).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        value = pixels[row][~np.isfinite(pixels[row])][0]
        raise UserError(f"{where}: image {ids[row]} has a pixel that is {value}; remove or mend it")


def integer_names(*labels: np.ndarray) -> tuple[str, ...]:
    """Names integer labels by their digits, from 0 to the largest in `labels`."""
    return digit_names(1 + max(int(part.max()) for part in labels))


def digit_names(num_labels: int) -> tuple[str, ...]:
    """Names labels that have no other name: "0", "1", …"""
    return tuple(map(str, range(num_labels)))


def numbered_ids(prefix: str, start: int, stop: int) -> list[str]:
    """Returns the ids of images start … stop − 1 of a part: train/00042."""
    return [f"{prefix}/{index:05d}" for index in range(start, stop)]


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns paths relative to the innermost folder that holds all of them.

    Ids begin with them, so that they are short and yet differ between files.
    """
    base = storage.common_folder(paths)
    return [storage.relative(path, base) for path in paths]

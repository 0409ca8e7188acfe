"""Where images come from: one module for each family of formats, one protocol for all."""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.plan import Piece
from pipeline.shards import Block


class Source(Protocol):
    """A set of images that can be cut into pieces and read piece by piece.

    It travels to the workers, so it holds paths and counts, never pixels.

    Attributes:
      spec: what `--input` said.
      split: what `--split` said.
      num_images: how many images.
      image_shape: (h, w), (h, w, c) or (d,).
      dtype: "uint8" or "float32".
      label_names: names of labels 0, 1, …, or None in an unlabelled set.
    """

    @property
    def spec(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def num_images(self) -> int: ...
    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def label_names(self) -> tuple[str, ...] | None: ...

    def pieces(self, num_shards: int) -> list[Piece]:
        """What becomes each of `num_shards` shards."""
        ...

    def read(self, piece: Piece) -> Iterator[Block]:
        """The images of one piece, block by block; the same blocks each time."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the manifest says of where the images came from."""
        ...


def open_source(spec: str, split: str = "train") -> Source:
    """The source that `spec` names: the name of a set, or a path.

    Raises:
      UserError: no such set, file or split, or a file that is not what its name says.
    """
    # Each family imports the library it decodes with, which others should not wait for.
    from pipeline.sources import arrays, named

    if spec in named.LOADERS:
        return named.open_named(spec, split)
    if not storage.exists(spec):
        names = ", ".join(sorted(named.LOADERS))
        raise UserError(f"--input {spec}: no such file, nor one of the named sets ({names})")
    if not storage.is_folder(spec) and (suffix := os.path.splitext(spec)[1]) in arrays.READERS:
        return arrays.READERS[suffix](spec, split)
    formats = ", ".join(sorted(arrays.READERS))
    raise UserError(f"--input {spec}: not a format this version reads ({formats})")


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
    """Labels as int64 [n]; raises UserError if they are not one integer from 0 for each image."""
    if labels.size != num_images or labels.shape[0] != num_images:
        raise UserError(f"{where}: {len(labels)} labels for {num_images} images")
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 65_535:
        raise UserError(f"{where}: labels of dtype {labels.dtype}; integers 0 … 65535 are needed")
    return labels.astype(np.int64)


def check_finite(pixels: np.ndarray, ids: list[str], where: str) -> None:
    """Raises UserError, naming the image, if any of `pixels` [B, d] is NaN or infinite."""
    good = np.isfinite(pixels).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        value = pixels[row][~np.isfinite(pixels[row])][0]
        raise UserError(f"{where}: image {ids[row]} has a pixel that is {value}; remove or mend it")


def integer_names(*labels: np.ndarray) -> tuple[str, ...]:
    """Names of integer labels: their digits, from 0 to the largest in `labels`."""
    return tuple(str(label) for label in range(1 + max(int(part.max()) for part in labels)))


def numbered_ids(prefix: str, start: int, stop: int) -> list[str]:
    """Ids of images start … stop − 1 of a part: train/00042."""
    return [f"{prefix}/{index:05d}" for index in range(start, stop)]

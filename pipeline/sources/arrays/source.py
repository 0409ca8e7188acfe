"""Sets of arrays: images of the parts of a set, each with an array of labels or without."""

import dataclasses
import logging
import math
import os
from collections.abc import Iterator

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.sources.arrays.array import Array
from pipeline.sources.checks import (
    check_finite,
    check_images,
    check_label_shape,
    check_weight_shape,
    short_names,
    stored_dtype,
)
from pipeline.sources.labels import NONE, names_in, numbered, plain_array
from pipeline.sources.protocol import Request
from pipeline.sources.weights import weights_of

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ArrayPart:
    """Images of one split of one file; their ids are `prefix`/00000, `prefix`/00001, …"""

    prefix: str
    images: Array
    labels: Array | None
    num_images: int
    weights: Array | None = None

    def load_labels(self) -> np.ndarray:
        """Reads the labels as integers [n], −1 where there is none, or as texts [n]."""
        if self.labels is None:
            return np.full(self.num_images, NONE)
        return plain_array(self.labels.load(), str(self.labels))

    def load_weights(self) -> np.ndarray | None:
        """Reads the weights, float64 [n]; None in an unweighted set."""
        return None if self.weights is None else weights_of(self.weights.load(), str(self.weights))


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images in NumPy files; the images of each part are numbered after those of the last."""

    request: Request
    parts: tuple[ArrayPart, ...]
    image_shape: tuple[int, ...]
    dtype: str
    label_names: tuple[str, ...] | None
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        return sum(part.num_images for part in self.parts)

    def read(self, piece: plan.Piece) -> Iterator[Block]:
        image_bytes = math.prod(self.image_shape) * np.dtype(self.dtype).itemsize
        sizes = [part.num_images for part in self.parts]
        for index, start, stop in plan.overlaps(piece, sizes):
            part = self.parts[index]
            labels = numbered(part.load_labels(), self.label_names) if self.label_names else None
            weights = part.load_weights()
            for a, b, pixels in part.images.rows(start, stop, plan.images_per_block(image_bytes)):
                ids = numbered_ids(part.prefix, a, b)
                if pixels.dtype != np.uint8:
                    check_finite(pixels, ids, str(part.images))
                own = (None if column is None else column[a:b] for column in (labels, weights))
                labels_here, weights_here = own
                yield Block(ids, labels_here, pixels, weights=weights_here)


def make_part(
    prefix: str, images: Array, labels: Array | None, weights: Array | None = None
) -> ArrayPart:
    """Makes a part, and checks its images, labels and weights; raises UserError."""
    shape, dtype = images.header()
    check_images(shape, str(images))
    stored = stored_dtype(dtype, images.limits, str(images))
    if dtype != np.dtype(stored):
        logger.warning(f"{images}: {dtype} pixels are read as {stored}")
        images = dataclasses.replace(images, stored=stored)
    if labels is not None:
        check_label_shape(labels.header()[0], shape[0], str(labels))
    if weights is not None:
        check_weight_shape(weights.header()[0], shape[0], str(weights))
    part = ArrayPart(prefix, images, labels, shape[0], weights)
    part.load_weights()  # what is wrong with one is said before anything is written
    return part


def make_source(request: Request, parts: list[ArrayPart]) -> ArraySource:
    """Makes a source of `parts`; it is labelled if any of them is.

    Raises:
      UserError: the parts differ in image shape or dtype, or in the kind of their labels.
    """
    headers = {
        (shape[1:], part.images.stored or dtype.name)
        for part in parts
        for shape, dtype in [part.images.header()]
    }
    if len(headers) > 1:
        raise UserError(f"{request}: parts differ in image shape or dtype: {sorted(headers)}")
    ((image_shape, dtype),) = headers
    if not request.wants_labels:
        return ArraySource(request, tuple(parts), image_shape, dtype, None)
    names = names_in([part.load_labels() for part in parts if part.labels], str(request))
    if names and not all(part.labels for part in parts):
        bare = [str(part.images) for part in parts if not part.labels]
        logger.warning(f"--input {request}: images without labels: {', '.join(bare)}")
    return ArraySource(request, tuple(parts), image_shape, dtype, names)


def id_folders(paths: list[str]) -> list[str]:
    """Returns prefixes that keep ids of different files apart: "" if there is one file."""
    if len(paths) == 1:
        return [""]
    return [f"{os.path.splitext(name)[0]}/" for name in short_names(paths)]

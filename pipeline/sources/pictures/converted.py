"""Sets of images that are decoded already, resized or made grey on the way."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources.protocol import Planned, Request

if TYPE_CHECKING:
    from pipeline.sources.protocol import Found


@dataclasses.dataclass(frozen=True)
class Converted:
    """A source of images in the colours and of the size that its request asks for."""

    source: Planned
    image_shape: tuple[int, ...]
    num_skipped: int = 0

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

    def read(self, piece: plan.Piece) -> "Iterator[Found]":
        size = plan.images_per_block(math.prod(self.image_shape))
        for found in self.source.read(piece):
            if not isinstance(found, Block):
                yield found
                continue
            # Enlarged images would make a block too large.
            for part in found.split(size):
                yield self._convert(part)

    def _convert(self, block: Block) -> Block:
        """Converts images [B, d] to [B, d′], uint8."""
        from pipeline.sources.pictures.decode import show_array

        images = block.pixels.reshape(len(block.ids), *self.source.image_shape)
        shown = [show_array(image, self.request) for image in images]
        thumbnails = [thumbnail for _, thumbnail in shown if thumbnail is not None]
        pixels = np.stack([pixels.reshape(-1) for pixels, _ in shown])
        return block._replace(pixels=pixels, thumbnails=thumbnails or None)


def converted(source: Planned) -> Planned:
    """Returns `source` as its request asks for it: unchanged, if its images are so already.

    Raises:
      UserError: the images are not uint8, or no images but rows.
    """
    if not source.request.converts:
        return source
    # Not at the top: without a conversion no module needs to load Pillow.
    from pipeline.sources.pictures.decode import check_convertible, from_array

    check_convertible(source.image_shape, source.dtype, source.request)
    sample = from_array(np.zeros(source.image_shape, np.uint8), source.request)
    return source if sample.shape == source.image_shape else Converted(source, sample.shape)

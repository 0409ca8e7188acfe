"""A source for tests: images whose pixels and labels are their numbers."""

import dataclasses

import numpy as np

from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Rejection, Request

REQUEST = Request(("numbers",))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Images of four equal pixels, whose labels are their numbers; every tenth is rejected."""

    num_images: int = 40
    request: Request = REQUEST
    image_shape: tuple[int, ...] = (2, 2)
    dtype: str = "uint8"
    label_names: tuple[str, ...] | None = ()
    num_skipped: int = 0
    failures: tuple[Exception, ...] = ()
    tries: list[int] = dataclasses.field(default_factory=list)

    def read(self, piece: plan.Piece):
        for i in range(piece.start, piece.stop):
            if i % 10 == 9:
                yield Rejection(f"{i:05d}", "the tenth")
            else:
                yield Block([f"{i:05d}"], np.array([i]), np.full((1, 4), i, np.uint8))
            if i == piece.start + 5 and len(self.tries) < len(self.failures):
                self.tries.append(i)
                raise self.failures[len(self.tries) - 1]

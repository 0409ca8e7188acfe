"""Sets known by name: scikit-learn's digits, and the two MNISTs that Keras downloads."""

import contextlib
import dataclasses
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Request
from pipeline.sources.checks import integer_names, numbered_ids

Part = tuple[str, np.ndarray, np.ndarray]  # prefix of the ids, images, labels
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclasses.dataclass(frozen=True)
class NamedSource:
    """A small set that its loader brings into memory wherever a piece of it is read."""

    request: Request
    num_images: int
    image_shape: tuple[int, ...]
    label_names: tuple[str, ...]
    dtype: str = "uint8"

    def read(self, piece: plan.Piece) -> Iterator[Block]:
        num_features = math.prod(self.image_shape)
        parts = _load(self.request)
        for index, start, stop in plan.overlaps(piece, (len(part[1]) for part in parts)):
            prefix, images, labels = parts[index]
            for a, b in plan.spans(start, stop, plan.block_rows(num_features)):
                pixels = images[a:b].reshape(b - a, num_features)
                yield Block(numbered_ids(prefix, a, b), labels[a:b], pixels)


def open_named(request: Request) -> NamedSource:
    """The set of LOADERS that the request names.

    Raises:
      UserError: it has no such split, or it cannot be downloaded.
    """
    parts = _load(request)
    labels = [part[2] for part in parts]
    names = FASHION if str(request) == "fashion-mnist" else integer_names(*labels)
    return NamedSource(request, sum(map(len, labels)), parts[0][1].shape[1:], names)


@functools.lru_cache(maxsize=1)
def _load(request: Request) -> list[Part]:
    parts = LOADERS[str(request)]()
    if request.split == "all":
        return parts
    chosen = [part for part in parts if part[0] == request.split]
    if not chosen:
        names = ", ".join(part[0] for part in parts)
        raise UserError(f"--split {request.split}: {request} has only {names}")
    return chosen


def _digits() -> list[Part]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # 0 … 16 in the set as it is distributed.
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return [("train", pixels, digits.target.astype(np.int64))]


def _keras(module: str, wanted: str) -> list[Part]:
    from keras import datasets

    home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
    path = os.path.join(home, "datasets", wanted)
    try:
        # Keras announces downloads on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            train, test = getattr(datasets, module).load_data()
    except Exception as error:
        raise UserError(
            f"cannot download {wanted}, and it is not at {path}: put it there, or give images "
            f"you have: --input PATH.npz ({' '.join(str(error).split())[:200]})"
        ) from error
    return [
        (split, images, labels.astype(np.int64))
        for split, (images, labels) in (("train", train), ("test", test))
    ]


LOADERS: dict[str, Callable[[], list[Part]]] = {
    "digits": _digits,
    "mnist": lambda: _keras("mnist", "mnist.npz"),
    "fashion-mnist": lambda: _keras("fashion_mnist", "fashion-mnist/train-images-idx3-ubyte.gz"),
}

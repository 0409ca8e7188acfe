"""Sets known by name: digits, which comes with this package, and two that Keras downloads."""

import contextlib
import dataclasses
import functools
import importlib.resources
import math
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.sources.formats import NAMED_SETS, loaded
from pipeline.sources.labels import names_in
from pipeline.sources.pictures.converted import converted
from pipeline.sources.protocol import Planned, Request
from pipeline.terminal import without_loading_lines

FASHION_NAMES = (
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


class NamedSplit(NamedTuple):
    """The images of one split: uint8 [n, h, w], and their labels, int64 [n]."""

    name: str
    images: np.ndarray
    labels: np.ndarray


class NamedSet(NamedTuple):
    """A set in memory; without `label_names` its labels are named by their digits."""

    splits: list[NamedSplit]
    label_names: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class NamedSource:
    """A small set, which is loaded into memory wherever a piece of it is read."""

    request: Request
    num_images: int
    image_shape: tuple[int, ...]
    label_names: tuple[str, ...] | None
    dtype: str = "uint8"
    num_skipped: int = 0

    def read(self, piece: plan.Piece) -> Iterator[Block]:
        num_features = math.prod(self.image_shape)
        labelled = self.label_names is not None
        splits = _load(self.request).splits
        for index, start, stop in plan.overlaps(piece, (len(split.images) for split in splits)):
            name, images, labels = splits[index]
            for a, b in plan.spans(start, stop, plan.images_per_block(num_features)):
                pixels = images[a:b].reshape(b - a, num_features)
                yield Block(numbered_ids(name, a, b), labels[a:b] if labelled else None, pixels)


def open_named(request: Request) -> Planned:
    """Opens the set that the request names.

    Raises:
      UserError: it has no such split, or it cannot be downloaded.
    """
    splits, names = _load(request)
    labels = [split.labels for split in splits]
    num_images, image_shape = sum(map(len, labels)), splits[0].images.shape[1:]
    names = (names or names_in(labels, str(request))) if request.wants_labels else None
    return converted(NamedSource(request, num_images, image_shape, names))


# A worker reads many pieces of one set, and should load it once.
@functools.lru_cache(maxsize=1)
def _load(request: Request) -> NamedSet:
    """Loads the splits that a request asks for."""
    everything: NamedSet = loaded(NAMED_SETS[str(request)])()
    if request.split == "all":
        return everything
    chosen = [split for split in everything.splits if split.name == request.split]
    if not chosen:
        names = ", ".join(split.name for split in everything.splits)
        raise UserError(f"--split {request.split}: {request} has only {names}")
    return everything._replace(splits=chosen)


def digits() -> NamedSet:
    """Loads the 1,797 handwritten digits of 8 × 8 pixels; data/digits.txt says whose they are."""
    path = importlib.resources.files("pipeline.sources") / "data" / "digits.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    # The set has 17 levels of grey, 0 … 16, where the other sets have 256.
    images = np.rint(images * (255 / 16)).astype(np.uint8)
    return NamedSet([NamedSplit("train", images, labels)])


def mnist() -> NamedSet:
    """Loads MNIST: 60,000 images to train on and 10,000 to test with."""
    return _from_keras("mnist", "mnist.npz")


def fashion_mnist() -> NamedSet:
    """Loads Fashion-MNIST, of the same sizes as MNIST."""
    found = _from_keras("fashion_mnist", "fashion-mnist/train-images-idx3-ubyte.gz")
    return found._replace(label_names=FASHION_NAMES)


def _from_keras(module: str, file: str) -> NamedSet:
    """Loads a set with Keras, which downloads it once.

    Args:
      module: of `keras.datasets`.
      file: where Keras keeps the set, below its folder datasets/.

    Raises:
      UserError: it is not there and cannot be downloaded.
    """
    with without_loading_lines():
        from keras import datasets  # takes seconds to load

    home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
    path = os.path.join(home, "datasets", file)
    try:
        # Keras announces downloads on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            train, test = getattr(datasets, module).load_data()
    except Exception as error:
        raise UserError(
            f"cannot download {file}, and it is not at {path}: put it there, or give images "
            f"you have: --input PATH.npz ({' '.join(str(error).split())[:200]})"
        ) from error
    return NamedSet(
        [
            NamedSplit(name, images, labels.astype(np.int64))
            for name, (images, labels) in (("train", train), ("test", test))
        ]
    )

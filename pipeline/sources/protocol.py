"""What every source of images offers, and the request that it was opened with."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipeline.errors import UserError
from pipeline.shards.plan import Listing, Piece
from pipeline.shards.rejected import Rejection

if TYPE_CHECKING:  # it loads numpy, which the formats in the help text do not need
    import numpy as np

    from pipeline.shards.block import Block
    from pipeline.sources.labels import Unnamed

    # What reading a piece yields.
    Found = Block | Rejection | Unnamed

AUTO, RGB, GRAY = COLORS = ("auto", "rgb", "gray")
STRETCH, CROP, PAD = RESIZES = ("stretch", "crop", "pad")
NO_LABELS = "none"  # a value of --label-column
NO_WEIGHTS = "none"  # a value of --weight-column
MAX_PIXELS = 1 << 26  # of an image, be it read or made


@dataclasses.dataclass(frozen=True)
class Request:
    """The user's choice of images.

    Attributes:
      inputs: values of `--input`.
      split: "train", "test" or "all".
      image_size: (h, w) that images are resized to; None: they keep their size.
      resize: how: "stretch", "crop" to the centre, or "pad" with black.
      color: "rgb", "gray", or "auto": grey where all images are grey, else RGB for all.
      image_column, label_column: names of columns, features or arrays; None: the usual ones.
        `label_column` may be NO_LABELS.
      weight_column: name of the column, feature or array of weights; None or NO_WEIGHTS: none.
      thumbnails: pixels of their longer side; 0: none are made.
      default_size: (h, w) that uint8 images get without `image_size`; None: they keep theirs.
      becomes_vectors: whether a transform makes vectors of the images.
    """

    inputs: tuple[str, ...]
    split: str = "train"
    image_size: tuple[int, int] | None = None
    resize: str = STRETCH
    color: str = AUTO
    image_column: str | None = None
    label_column: str | None = None
    weight_column: str | None = None
    thumbnails: int = 0
    default_size: tuple[int, int] | None = None
    becomes_vectors: bool = False

    def __str__(self) -> str:
        return " ".join(self.inputs)

    @property
    def converts(self) -> bool:
        """Whether images are to have a certain size or certain colours."""
        return self.image_size is not None or self.color != AUTO

    @property
    def shows_originals(self) -> bool:
        """Whether thumbnails are those of the images before these are stretched to a size."""
        size = self.image_size or self.default_size
        if size is None or self.resize != STRETCH or not self.thumbnails:
            return False
        return self.becomes_vectors or max(size) > self.thumbnails

    @property
    def wants_labels(self) -> bool:
        """Whether labels are to be read."""
        return self.label_column != NO_LABELS

    @property
    def wants_weights(self) -> bool:
        """Whether weights are to be read."""
        return self.weight_column not in (None, NO_WEIGHTS)

    def describe(self) -> dict[str, Any]:
        """The request as the field `source` of a manifest."""
        fields: dict[str, Any] = {"split": self.split}
        if self.image_size:
            fields["image_size"] = list(self.image_size)
        for name in ("resize", "color", "image_column", "label_column"):
            if (value := getattr(self, name)) not in (STRETCH, AUTO, None):
                fields[name] = value
        if self.wants_weights:
            fields["weight_column"] = self.weight_column
        return {"input": self.inputs[0] if len(self.inputs) == 1 else list(self.inputs), **fields}

    def refuse_test_split(self) -> None:
        """Raises UserError if the test split is wanted of a format that has no splits."""
        if self.split == "test":
            raise UserError(f"--split test: {self} has no splits: all of it counts as train")


class Source(Protocol):
    """A set of images that can be read piece by piece.

    It is sent to the workers, so it holds paths and counts, never pixels. Every source is also
    either Planned or Listed.

    Attributes:
      request: the user's choice of images.
      num_images: the number of images, including those that will be rejected.
      image_shape: (h, w), (h, w, c) or (d,).
      dtype: "uint8" or "float32".
      label_names: names of labels 0, 1, …; () where labels are named by their digits, up to the
        largest one read; None in an unlabelled set. If no image has a label, names do not matter.
      num_skipped: the number of files that lie among the images and are not read.
    """

    @property
    def request(self) -> Request: ...
    @property
    def num_images(self) -> int: ...
    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def label_names(self) -> tuple[str, ...] | None: ...
    @property
    def num_skipped(self) -> int: ...

    def read(self, piece: Any) -> "Iterator[Found]":
        """Reads the images of one piece, block by block; the same blocks each time."""
        ...


@runtime_checkable
class Renamable(Source, Protocol):
    """A source whose images bring ids or labels that only all of them together can settle.

    Ids may repeat, and labels may have to be numbered, which is known when all pieces are written.
    """

    def renamed(self, label_names: tuple[str, ...], repeated: "np.ndarray") -> "Renamable":
        """Returns the source with these names of labels, and other ids for those that repeat.

        Args:
          repeated: hashes of the ids that repeat, sorted; see `shards.ids`.
        """
        ...


class Planned(Source, Protocol):
    """A source whose images are numbered: its pieces are known before anything is read."""

    def read(self, piece: Piece) -> "Iterator[Found]": ...


@runtime_checkable
class Listed(Source, Protocol):
    """A source too large to be listed in one place: workers list its parts."""

    def parts(self) -> list[Any]:
        """Returns the parts, each of which one worker lists."""
        ...

    def list_part(self, part: Any) -> Iterator[tuple[bytes, int]]:
        """Yields (reference, label) of each image of a part, in any order.

        A reference is unique in the set.
        """
        ...

    def read(self, piece: Listing) -> "Iterator[Found]": ...

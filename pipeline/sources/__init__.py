"""Where images come from: one module for each family of formats, one protocol for all."""

import dataclasses
import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.block import Block
from pipeline.shards.plan import Listing, Piece

# What the end of a file's name says of its format.
KINDS = {
    "npz": r"\.npz",
    "npy": r"\.npy",
    "idx": r"(images|labels)[-.]idx\d-ubyte(\.gz)?",
    "TFRecord": r"\.tfrecords?(\.gz)?(-\d+-of-\d+)?(\.gz)?",
    "Parquet": r"\.(parquet|pq)",
    "images": r"(?i:\.(png|jpe?g|bmp|gif|webp))",
}


class Rejection(NamedTuple):
    """An image that cannot be read, and why; the job goes on without it."""

    id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for: `--input`, `--split`, `--image-size` as (h, w), `--grayscale`."""

    inputs: tuple[str, ...]
    split: str = "train"
    image_size: tuple[int, int] | None = None
    grayscale: bool = False

    def __str__(self) -> str:
        return " ".join(self.inputs)

    def describe(self) -> dict[str, Any]:
        """What the manifest says of where the images came from."""
        said: dict[str, Any] = {"split": self.split}
        if self.image_size:
            said["image_size"] = list(self.image_size)
        if self.grayscale:
            said["grayscale"] = True
        return {"input": self.inputs[0] if len(self.inputs) == 1 else list(self.inputs), **said}

    def check_whole(self) -> None:
        """Raises UserError if a part is wanted of a set that has none."""
        if self.split == "test":
            raise UserError(f"--split test: {self} has no splits: all of it counts as train")


class Source(Protocol):
    """A set of images that can be read piece by piece.

    It travels to the workers, so it holds paths and counts, never pixels. It is either Planned or
    Listed.

    Attributes:
      request: what the user asked for.
      num_images: how many images, those included that will be rejected.
      image_shape: (h, w), (h, w, c) or (d,).
      dtype: "uint8" or "float32".
      label_names: names of labels 0, 1, …; () where they are to be named by their digits, up to
        the largest that is read; None in an unlabelled set.
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

    def read(self, piece: Any) -> Iterator[Block | Rejection]:
        """The images of one piece, block by block; the same blocks each time."""
        ...


class Planned(Source, Protocol):
    """A source whose images are numbered: its pieces are known before anything is read."""

    def read(self, piece: Piece) -> Iterator[Block | Rejection]: ...


@runtime_checkable
class Listed(Source, Protocol):
    """A source too large to be listed in one place: workers list its parts."""

    def parts(self) -> list[Any]:
        """What one worker lists at a time."""
        ...

    def list_part(self, part: Any) -> Iterator[tuple[bytes, int]]:
        """References to the images of a part, in no order; the bytes are unique in the set."""
        ...

    def read(self, piece: Listing) -> Iterator[Block | Rejection]: ...


def open_source(
    inputs: str | Sequence[str],
    split: str = "train",
    image_size: tuple[int, int] | None = None,
    grayscale: bool = False,
) -> Planned | Listed:
    """The source that `inputs` name: the name of a set, or paths and globs of one kind.

    Args:
      image_size: (h, w) that every image is resized to.
      grayscale: whether colours are dropped.

    Raises:
      UserError: no such set, file or split, or a file that is not what its name says.
    """
    request = Request(
        (inputs,) if isinstance(inputs, str) else tuple(inputs), split, image_size, grayscale
    )
    # Each family imports the library it decodes with, which others should not wait for.
    from pipeline.sources import arrays
    from pipeline.sources import builtin as named

    if request.inputs[0] in named.LOADERS and len(request.inputs) == 1:
        return _converted(named.open_named(request))
    paths = [path for spec in request.inputs for path in _expand(spec, named.LOADERS)]
    kinds = sorted({_kind(path) for path in paths})
    if len(kinds) > 1:
        raise UserError(f"--input {request}: of several kinds ({', '.join(kinds)}); give one kind")
    match kinds[0]:
        case "npz":
            return _converted(arrays.open_npz(request, paths))
        case "npy":
            return _converted(arrays.open_npy(request, paths))
        case "idx":
            from pipeline.sources import idx

            return _converted(idx.open_idx(request, paths))
        case "TFRecord":
            from pipeline.sources import tfrecords as examples

            return examples.open_examples(request, paths)
        case "Parquet":
            from pipeline.sources import parquet

            return parquet.open_parquet(request, paths)
        case _:
            from pipeline.sources import folders

            return folders.open_folders(request, paths)


def _expand(spec: str, names: Iterable[str]) -> list[str]:
    if storage.exists(spec):
        return [spec]
    if glob.has_magic(spec):
        if found := storage.matching(spec):
            return found
        raise UserError(f"--input {spec}: matches no file; check the pattern and quote it")
    raise UserError(
        f"--input {spec}: no such file, nor one of the named sets ({', '.join(sorted(names))})"
    )


def _kind(path: str) -> str:
    if storage.is_folder(path):
        from pipeline.sources import idx

        return "idx" if idx.images_in(path) else "images"
    for kind, ending in KINDS.items():
        if re.search(f"{ending}$", path):
            return kind
    raise UserError(f"--input {path}: not a format this version reads ({', '.join(KINDS)})")


def _converted(source: Planned) -> Planned:
    if source.request.image_size is None and not source.request.grayscale:
        return source
    from pipeline.sources.decode import converted

    return converted(source)

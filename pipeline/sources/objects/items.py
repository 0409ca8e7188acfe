"""Images that come one by one and perhaps only once: they are kept on disk until they are written.

In memory stay ids, labels and places, some hundred bytes an image.
"""

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.shards.rejected import Rejection
from pipeline.sources.checks import stored_dtype, text_of
from pipeline.sources.columns import image_column, label_column, weight_column
from pipeline.sources.labels import NONE, Label, Unnamed, names_of, number_of, plain
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.protocol import AUTO, Request
from pipeline.sources.rows import Item, blocks, settle
from pipeline.sources.weights import weight_of

PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")  # of Pillow's images


class Given(NamedTuple):
    """An image as the caller gives it."""

    id: str
    image: Any
    label: Any
    weight: Any = None


class Kept(NamedTuple):
    """Where an image is on disk.

    Attributes:
      size: in bytes; 0: there is no image.
      is_file: whether it is an encoded image; else an array.
      weight: None in an unweighted set.
    """

    id: str
    label: Label | None
    start: int
    size: int
    is_file: bool
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class ItemSource:
    """Images in a file of this process.

    Attributes:
      numbers: the dtype that arrays are read with.
    """

    request: Request
    file: IO[bytes]
    kept: tuple[Kept, ...]
    numbers: str
    label_names: tuple[str, ...] | None
    image_shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    color: str = AUTO
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        return len(self.kept)

    def read(self, piece: plan.Piece) -> Iterator[Block | Rejection | Unnamed]:
        return blocks(self.items(piece), self, self.label_names is not None)

    def items(self, piece: plan.Piece) -> Iterator[Item]:
        """Reads the images of a piece, one by one."""
        numbers = {name: index for index, name in enumerate(self.label_names or ())}
        for kept in self.kept[piece.start : piece.stop]:
            number = NONE if self.label_names is None else number_of(kept.label, numbers)
            assert number is not None  # all labels are known
            yield Item(kept.id, number, self._content(kept), kept.weight)

    def _content(self, kept: Kept) -> bytes | np.ndarray | Unreadable:
        if not kept.size:
            return Unreadable("no image")
        self.file.seek(kept.start)
        data = self.file.read(kept.size)
        if kept.is_file:
            return data
        return np.load(io.BytesIO(data), allow_pickle=False).astype(self.numbers, copy=False)


@contextlib.contextmanager
def spooled(found: Iterable[Given], request: Request) -> Iterator[ItemSource]:
    """Keeps images on disk, and opens the source of them.

    Raises:
      UserError: two have the same id, one is no image, or a label is none.
    """
    with tempfile.TemporaryFile() as file:
        dtypes: set[str] = set()
        kept = tuple(_keep(given, file, dtypes, request) for given in _unique(found, request))
        labels = {each.label for each in kept if each.label is not None}
        names = names_of(labels, str(request)) if labels else None
        numbers = "float32" if "float32" in dtypes else "uint8"
        source = ItemSource(request, file, kept, numbers, names)
        shape, dtype, color = settle(source.items(plan.Piece(0, 0, len(kept))), request)
        yield dataclasses.replace(source, image_shape=shape, dtype=dtype, color=color)


def of_tuples(images: Iterable[Any], request: Request) -> Iterator[Given]:
    """Reads (id, image) or (id, image, label)."""
    for number, item in enumerate(images):
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            raise UserError(
                f"{request}: item {number} is of type {type(item).__name__}; give (id, image) or "
                "(id, image, label), or all images as one array"
            )
        name, image, *label = item
        if not isinstance(name, str | bytes | int | np.integer):
            raise UserError(
                f"{request}: the id of item {number} is of type {type(name).__name__}; give text"
            )
        name = text_of(name) if isinstance(name, bytes) else str(name)
        yield Given(name, image, label[0] if label and request.wants_labels else None)


def of_rows(images: Any, request: Request) -> Iterator[Given]:
    """Reads the rows of a datasets.IterableDataset, by the usual names of columns."""
    features = images.features or {}
    for name, feature in features.items():
        if type(feature).__name__ == "Image":  # left encoded, as in files
            images = images.cast_column(name, dataclasses.replace(feature, decode=False))
    names_by_column = {name: getattr(f, "names", None) for name, f in features.items()}

    def named(label: Any, column: str | None) -> Any:
        names = names_by_column.get(column or "")
        return names[label] if names and isinstance(label, int) and label >= 0 else label

    for given, column in _by_column(images, request):
        yield given._replace(label=named(given.label, column))


def of_tensorflow(images: Any, request: Request) -> Iterator[Given]:
    """Reads the elements of a tf.data.Dataset: image, (image, label) or a dictionary.

    Batches are taken apart.
    """
    spec = images.element_spec
    parts = [*spec.values()] if isinstance(spec, dict) else [*spec] if _is_tuple(spec) else [spec]
    if all(part.shape.rank != 0 for part in parts) and (len(parts) > 1 or _has_batches(parts[0])):
        images = images.unbatch()
    elements = images.as_numpy_iterator()
    if isinstance(spec, dict):
        yield from (given for given, _ in _by_column(elements, request))
        return
    for number, element in enumerate(elements):
        image, *label = element if _is_tuple(spec) else (element,)
        wanted = label[0] if label and request.wants_labels else None
        yield Given(_id(number), image, wanted)


def _id(number: int) -> str:
    return numbered_ids("train", number, number + 1)[0]


def _is_tuple(spec: Any) -> bool:
    return isinstance(spec, tuple | list)


def _has_batches(part: Any) -> bool:
    """Whether an element of images alone is a batch: its first side is not known."""
    return part.shape.rank is not None and part.shape[0] is None


def _by_column(rows: Iterable[Any], request: Request) -> Iterator[tuple[Given, str | None]]:
    """Reads dictionaries; yields images and the name of the column of labels."""
    image: str | None = None
    label: str | None = None
    weight: str | None = None
    for number, row in enumerate(rows):
        if image is None:
            names = [*row]
            fitting = [name for name, value in row.items() if _may_be_image(value)]
            image = image_column(names, fitting, request, str(request))
            label = label_column(names, request, str(request))
            weight = weight_column(names, request, str(request))
        given_label = None if label is None else row[label]
        given_weight = None if weight is None else row[weight]
        yield Given(_id(number), row[image], given_label, given_weight), label


def _may_be_image(value: Any) -> bool:
    return isinstance(value, bytes | dict | list) or np.ndim(value) > 0 or hasattr(value, "save")


def _unique(found: Iterable[Given], request: Request) -> Iterator[Given]:
    seen: set[str] = set()
    for given in found:
        if given.id in seen:
            raise UserError(f"{request}: id {given.id} is given twice; give each image its own")
        seen.add(given.id)
        yield given


def _keep(given: Given, file: IO[bytes], dtypes: set[str], request: Request) -> Kept:
    """Writes an image to the end of `file`; adds the dtype of an array to `dtypes`."""
    where = f"{request}: image {given.id}"
    label = None if given.label is None else plain(given.label, where)
    image, start = given.image, file.seek(0, io.SEEK_END)
    if isinstance(image, dict):  # an image of `datasets` that is not decoded
        image = image.get("bytes") or _read(image.get("path"))
    if hasattr(image, "save") and hasattr(image, "mode"):  # one of Pillow's
        image = _encoded(image)
    is_file = isinstance(image, bytes)
    if is_file:
        file.write(image)
    elif image is not None:
        array = _array(image, where)
        dtypes.add(array.dtype.name)
        np.save(file, array, allow_pickle=False)
    weight = weight_of(given.weight, where) if request.wants_weights else None
    return Kept(given.id, label, start, file.tell() - start, is_file, weight)


def _array(image: Any, where: str) -> np.ndarray:
    """Returns an image as an array of uint8 or float32.

    Raises:
      UserError: it is no image.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "uifb" or not array.size or not array.ndim:
        raise UserError(
            f"{where}: of type {type(image).__name__}; give an array, or the bytes of an image file"
        )
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # infinity is refused later
            return array.astype(np.float32)
    limits = int(array.min()), int(array.max())
    return array.astype(stored_dtype(array.dtype, lambda: limits, where))


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    from pipeline import storage

    return storage.read_bytes(path)


def _encoded(image: Any) -> bytes:
    """Encodes an image of Pillow's without loss."""
    kind = "PNG" if image.mode in PNG_MODES else "TIFF"
    image.save(file := io.BytesIO(), kind, exif=image.getexif())
    return file.getvalue()

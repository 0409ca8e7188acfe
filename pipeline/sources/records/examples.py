"""What a `tf.train.Example` says of an image: its content, its label, its id.

Features are called as Slim calls them (image/encoded), TensorFlow Datasets (image), the tutorial of
TensorFlow (image_raw), or as columns of tables usually are; each record may differ.
"""

import math
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.shards.ids import hashed
from pipeline.sources.checks import MAX_PIXEL, text_of
from pipeline.sources.columns import IMAGE_NAMES, LABEL_NAMES, shown
from pipeline.sources.labels import Label, plain
from pipeline.sources.pictures.decode import Unreadable, shape_text
from pipeline.sources.protocol import NO_LABELS, Request
from pipeline.sources.weights import weight_of

IMAGE_KEYS = ("image/encoded", "image/raw", "image_raw", *IMAGE_NAMES)
LABEL_KEYS = ("image/class/label", *LABEL_NAMES)
OBJECT_LABELS = "image/object/class/label"
# Features with the sides of an image whose pixels are stored without encoding.
SIDES = (
    ("image/height", "height"),
    ("image/width", "width"),
    ("image/channels", "depth", "channels"),
)


def content_of(feature: Any, request: Request, where: str) -> bytes | np.ndarray | Unreadable:
    """Returns an image as it is stored, or why there is none.

    Raises:
      UserError: no feature of the record may hold an image.
    """
    keys = (request.image_column,) if request.image_column else IMAGE_KEYS
    for key in (key for key in keys if key in feature):
        kind = feature[key].WhichOneof("kind")
        if kind is None:
            return Unreadable("empty image")
        values = getattr(feature[key], kind).value
        if kind == "bytes_list":
            data = values[0] if values else b""
            return _of_bytes(data, key, feature, where) if data else Unreadable("empty image")
        if len(values) > 1 or kind == "float_list":
            return _of_numbers(values, kind == "int64_list", feature, where)
    if request.image_column:
        raise UserError(
            f"--image-column {request.image_column}: {where} has no image there, only "
            f"{shown(sorted(feature))}"
        )
    raise UserError(
        f"{where}: an Example without image/encoded, image/raw or floats in image, features or "
        f"embedding; it has {shown(sorted(feature))}; name one with --image-column"
    )


def _of_bytes(data: bytes, key: str, feature: Any, where: str) -> bytes | np.ndarray | Unreadable:
    """Returns an image file, or pixels that are stored without encoding, uint8 [h, w, c]."""
    shape = _sides(feature)
    if key != "image/raw":
        # Raw pixels under another name are those that are as many as the sides say.
        is_raw = len(shape) > 1 and math.prod(shape) == len(data)
        return np.frombuffer(data, np.uint8).reshape(shape) if is_raw else data
    for names, side in zip(SIDES, (*shape, None, None, None), strict=False):
        if side is None:
            raise UserError(f"{where}: image/raw needs {names[0]}, an integer")
    if min(shape) < 1 or math.prod(shape) != len(data):
        return Unreadable(f"{len(data)} bytes instead of {shape_text(shape)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _of_numbers(
    values: Any, are_integers: bool, feature: Any, where: str
) -> np.ndarray | Unreadable:
    """Returns numbers as float32, integers as uint8; of the shape that is stored beside them.

    Raises:
      UserError: an integer is no byte.
    """
    numbers = np.array(values, np.int64 if are_integers else np.float32)
    if are_integers and not (numbers.min() >= 0 and numbers.max() <= MAX_PIXEL):
        raise UserError(
            f"{where}: integers {numbers.min()} … {numbers.max()}; images are 0 … {MAX_PIXEL}, or "
            "floats"
        )
    shape = _sides(feature) if are_integers else ()
    if len(shape) < 2 or math.prod(shape) != len(numbers):
        shape = numbers.shape
    return numbers.astype(np.uint8 if are_integers else np.float32).reshape(shape)


def _sides(feature: Any) -> tuple[int, ...]:
    """Returns the height, width and channels that a record has, as far as it has them."""
    found = []
    for names in SIDES:
        values = [feature[name].int64_list.value for name in names if name in feature]
        if not values or not values[0]:
            break
        found.append(values[0][0])
    return tuple(found)


def label_in(feature: Any, request: Request, where: str) -> Label | None:
    """Returns the label of an image.

    Raises:
      UserError: it is neither an integer nor a name.
    """
    asked = request.label_column
    if asked == NO_LABELS:
        return None
    if asked and asked not in feature:
        raise UserError(f"--label-column {asked}: {where} has only {shown(sorted(feature))}")
    for key in (asked,) if asked else LABEL_KEYS:
        if key in feature and (values := _values(feature[key])):
            label = plain(values if len(values) > 1 else values[0], where)
            if label not in (None, ""):
                return label
    return None


def weight_in(feature: Any, request: Request, where: str) -> float | None:
    """Returns the weight of an image; None in an unweighted set.

    Raises:
      UserError: it is missing, or no weight.
    """
    if not request.wants_weights:
        return None
    asked = request.weight_column
    if asked not in feature:
        raise UserError(f"--weight-column {asked}: {where} has only {shown(sorted(feature))}")
    values = _values(feature[asked])
    return weight_of(values[0] if len(values) == 1 else values or None, where)


def _values(feature: Any) -> list[Any]:
    return list(feature.bytes_list.value or feature.int64_list.value or feature.float_list.value)


def id_of(feature: Any, sizes: dict[str, int], repeated: frozenset[int]) -> str | None:
    """Returns the id that an image brings; None if it cannot serve as one.

    Args:
      sizes: numbers of records by the name of a file. FILE/00042 stands for a position.
      repeated: hashes of the ids that several images bring.
    """
    brought = _text(feature, "image/filename")
    if brought is None or (repeated and int(hashed([brought])[0]) in repeated):
        return None
    name, _, number = brought.rpartition("/")
    if name in sizes and number.isdecimal() and int(number) < sizes[name]:
        return None
    return brought


def _bytes(feature: Any, key: str) -> bytes:
    values = feature[key].bytes_list.value if key in feature else ()
    return values[0] if values else b""


def _text(feature: Any, key: str) -> str | None:
    return text_of(_bytes(feature, key)) or None

"""From an object of a Python caller to an open source."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.errors import UserError
from pipeline.sources.protocol import Planned, Request

KINDS = (
    "a path, an array, a pair of arrays (images, labels), a datasets.Dataset, a tf.data.Dataset, "
    "or an iterable of (id, image, label)"
)


def are_paths(images: Any) -> bool:
    """Whether an input is a path or the name of a set, or several of them."""
    if isinstance(images, str | os.PathLike):
        return True
    return isinstance(images, list | tuple) and all(
        isinstance(x, str | os.PathLike) for x in images
    )


def describe(images: Any) -> str:
    """Names an object for messages and manifests: `ndarray 1797 × 8 × 8`.

    Raises:
      TypeError: it is nothing that can be read.
    """
    if _is_pair(images):
        return f"{describe(images[0])} with labels"
    if isinstance(images, bytes | dict) and not _is_of(images, "datasets"):
        raise TypeError(f"input of type {type(images).__name__}; give {KINDS}")
    if _is_array(images):
        return " ".join([type(images).__name__, " × ".join(map(str, images.shape))])
    if not isinstance(images, Iterable):
        raise TypeError(f"input of type {type(images).__name__}; give {KINDS}")
    return type(images).__name__.lstrip("_")


@contextlib.contextmanager
def opened(images: Any, request: Request) -> Iterator[Planned]:
    """Opens the source of an object; what is kept on disk for it is removed at the end.

    Args:
      request: its one input is what `describe` says.

    Raises:
      UserError: it holds no images, or the request does not fit it.
    """
    # The modules are imported here, because most callers need one of them only.
    if _is_pair(images) or _is_array(images):
        from pipeline.sources.objects import arrays

        _refuse_choice(request, columns=True)
        yield arrays.open_arrays(images if _is_pair(images) else (images, None), request)
    elif _is_of(images, "datasets") and hasattr(images, "save_to_disk"):
        from pipeline.sources.objects import hugging_face

        with hugging_face.opened(images, request) as source:
            yield source
    else:
        from pipeline.sources.objects import items

        if _is_of(images, "tensorflow"):
            if not isinstance(images.element_spec, dict):
                _refuse_weights(request)
            found = items.of_tensorflow(images, request)
        elif _is_of(images, "datasets"):
            found = items.of_rows(images, request)
        else:
            _refuse_choice(request, columns=True)
            found = items.of_tuples(images, request)
        _refuse_choice(request)
        with items.spooled(found, request) as source:
            yield source


def _is_of(images: Any, package: str) -> bool:
    """Whether the class of an object, or one that it extends, is of a package."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(images).__mro__)


def _is_array(images: Any) -> bool:
    return hasattr(images, "shape") and (hasattr(images, "__array__") or _is_of(images, "numpy"))


def _is_pair(images: Any) -> bool:
    """Whether an object is (images, labels), both arrays, the labels perhaps a list."""
    if not isinstance(images, tuple) or len(images) != 2 or not _is_array(images[0]):
        return False
    return _is_array(images[1]) or isinstance(images[1], list)


def _refuse_choice(request: Request, columns: bool = False) -> None:
    """Raises UserError if a split is chosen where there is none, or a column."""
    request.refuse_test_split()
    if columns:
        _refuse_weights(request)
    for name in ("image_column", "label_column") if columns else ():
        value = getattr(request, name)
        if value is not None and (name == "image_column" or request.wants_labels):
            raise UserError(f"{name} {value!r}: {request} has no columns; leave it out")


def _refuse_weights(request: Request) -> None:
    """Raises UserError if a column of weights is named of images that come without any."""
    if request.wants_weights:
        raise UserError(
            f"weight_column {request.weight_column!r}: {request} has no columns; give "
            "dictionaries, a datasets.Dataset or a file of npz, CSV, TFRecord, Parquet or Arrow"
        )

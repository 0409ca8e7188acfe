"""Vectors instead of pixels: the registry of what `--transform` may name, and its protocols.

A feature is what one value of `--transform` names, before there is a file of it; a transform is
loaded from such a file and makes vectors. This module is imported to list the features, so it
loads neither their modules nor numpy.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class Transform(Protocol):
    """A function from images to vectors, ready to be applied.

    Attributes:
      batch: number of images that it is best given at a time; None: any.
    """

    @property
    def batch(self) -> int | None: ...

    def apply(self, pixels: "np.ndarray") -> "np.ndarray":
        """Makes vectors, float32 [B, N], of images [B, d]."""
        ...


@runtime_checkable
class Drawable(Transform, Protocol):
    """A transform whose vectors can become images again.

    Attributes:
      noun: of the numbers in a vector, "principal components", for reports.
      variance_share: the share of the images' variance that their vectors keep, 0 … 1.
    """

    @property
    def noun(self) -> str: ...
    @property
    def variance_share(self) -> float: ...

    def invert(self, vectors: "np.ndarray") -> "np.ndarray":
        """Makes images, float32 [m, d] in published units, of vectors [m, N]."""
        ...


class Accumulator(Protocol):
    """Sums over images, from which a transform is learned; `merge` takes them in any order."""

    def add(self, pixels: "np.ndarray") -> None:
        """Adds images [B, d]."""
        ...

    def merge(self, other: Any) -> "Accumulator":
        """Returns the sums over the images of both."""
        ...


class Feature(Protocol):
    """A kind of vectors, as one value of `--transform` names it.

    Attributes:
      file: name of the transform's file, beside the manifest.
      original: path of the user's file that becomes it; None where there is none.
      is_drawable: whether the transform is a Drawable, known without loading it.
    """

    @property
    def file(self) -> str: ...
    @property
    def original(self) -> str | None: ...
    @property
    def is_drawable(self) -> bool: ...

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the length of the vectors of such images.

        Raises:
          UserError: such images cannot be transformed, or there is no such model.
        """
        ...

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Writes the transform's file to `path`, unless it has to be learned first."""
        ...

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> Transform:
        """Loads the transform of such images from its file at `path`."""
        ...


@runtime_checkable
class Learned(Feature, Protocol):
    """A feature whose transform follows from the images: all are read before the first is made."""

    def accumulator(self, num_pixels: int) -> Accumulator:
        """Returns an empty accumulator for images of `num_pixels`."""
        ...

    def learn(self, accumulator: Any, dtype: str) -> bytes:
        """Returns the content of the transform's file, from the sums over all images."""
        ...


@runtime_checkable
class Sized(Feature, Protocol):
    """A feature of images of one size, which they get as they are decoded, whatever theirs is."""

    def image_size(self) -> tuple[int, int]:
        """Returns (h, w); raises UserError if there is no such model."""
        ...


@dataclasses.dataclass(frozen=True)
class Kind:
    """An entry of the registry: what may follow NAME: in a value of `--transform`.

    Attributes:
      values: placeholders for it, in the help text and in messages.
      summary: of the vectors, in the help text.
      where: "module:function", which makes the Feature of the parsed value.
      endings: of the transform's file.
      pattern: regular expression that the value matches.
      parse: from the text to the value; raises ValueError with the reason.
    """

    values: tuple[str, ...]
    summary: str
    where: str
    endings: tuple[str, ...]
    pattern: str = ".+"
    parse: Callable[[str], Any] = str


def _at_least_one(text: str) -> int:
    if not (count := int(text)):
        raise ValueError("at least one component is needed")
    return count


KINDS = {
    "pca": Kind(
        ("N",),
        "N principal components",
        "pipeline.features.pca:PcaFeature",
        (".npz",),
        r"\d+",
        _at_least_one,
    ),
    "keras": Kind(
        ("NAME", "PATH"),
        "what a model makes of each image, one of keras.applications or a saved one",
        "pipeline.features.keras_model:keras_feature",
        (".keras", ".h5"),
    ),
}
FORMS = tuple(f"{name}:{value}" for name, kind in KINDS.items() for value in kind.values)
# .json is of `--normalize` alone, .zip of several steps.
_ENDINGS = (*(end for kind in KINDS.values() for end in kind.endings), ".json", ".zip")
TRANSFORM_FILES = tuple(f"transform{end}" for end in _ENDINGS)
# The last step of `--normalize`: pca:7,unit.
UNIT = "unit"


def specification(text: str) -> str:
    """Returns a value of `--transform` as it is kept: pca:7 for pca:007.

    Raises:
      ValueError: there is no such feature, or its value is wrong.
    """
    return ",".join(f"{name}:{value}" for name, value in map(_parsed, _steps(text)))


def with_unit(spec: str | None, normalize: bool) -> str | None:
    """Adds the step of `--normalize` to a value of `--transform`, or to none."""
    return ",".join(filter(None, (spec, UNIT))) if normalize else spec


def without_unit(spec: str) -> tuple[str | None, bool]:
    """Returns the value of `--transform`, if any, and whether vectors are of unit length."""
    first, _, last = spec.rpartition(",")
    return (first or None, True) if last == UNIT else (spec, False)


def feature_of(spec: str) -> Feature:
    """Loads the feature that a value of `--transform`, perhaps `with_unit`, names.

    Raises:
      UserError: there is no such feature.
    """
    given, normalize = without_unit(spec)
    steps = [_feature(step) for step in _steps(given)] if given else []
    if len(steps) > 1:
        from pipeline.features.chain import chain_of

        return chain_of(steps, normalize)
    if normalize:
        from pipeline.features.unit import unit_of

        return unit_of(steps[0] if steps else None)
    return steps[0]


def first_feature(spec: str) -> Feature:
    """Loads the feature that sees the images, the first step of `spec`; raises as `feature_of`."""
    given, _ = without_unit(spec)
    return _feature(_steps(given)[0]) if given else feature_of(spec)


def _feature(step: str) -> Feature:
    try:
        name, value = _parsed(step)
    except ValueError as error:
        raise UserError(f"--transform {error}") from error
    module, _, feature = KINDS[name].where.partition(":")
    return getattr(importlib.import_module(module), feature)(value)


def _steps(text: str) -> list[str]:
    """Splits a value of `--transform` where a comma begins another step; paths may hold some."""
    return re.split(rf",(?=(?:{'|'.join(KINDS)}):)", text)


def transform_help() -> str:
    """Describes the values of `--transform`, for the help text."""
    kinds = ", or ".join(kind.summary for kind in KINDS.values())
    return f"cluster vectors instead of pixels: {kinds}; or several, as keras:NAME,pca:N"


def _parsed(text: str) -> tuple[str, Any]:
    """Returns the name in the registry and the parsed value; raises ValueError."""
    name, _, value = text.partition(":")
    kind = KINDS.get(name)
    if kind is None or not re.fullmatch(kind.pattern, value):
        raise ValueError(f"{text!r} is neither {' nor '.join(FORMS)}")
    try:
        return name, kind.parse(value)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error

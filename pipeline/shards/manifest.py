"""manifest.json lists the files of a set of shards; written last, it says that all are there."""

import dataclasses
import json
from typing import Any, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import TRANSFORM_FILES
from pipeline.shards import json_text

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_ENDING = ".tfrecord"


@dataclasses.dataclass(frozen=True)
class Shard:
    """The manifest's entry for one shard file."""

    file: str
    num_images: int
    num_bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class TransformFile:
    """The manifest's entry for the file of the transform that made vectors of images.

    Attributes:
      spec: the value of `--transform`.
      file: the file's name, beside the manifest.
      image_shape: (h, w), (h, w, c) or (d,) of the images it takes.
      dtype: of these images, "uint8" or "float32".
      num_features: length of the vectors.
    """

    spec: str
    file: str
    num_bytes: int
    crc32c: str
    image_shape: tuple[int, ...]
    dtype: str
    num_features: int

    @classmethod
    def from_fields(cls, fields: dict[str, Any] | None) -> "TransformFile | None":
        """Makes the entry from its fields, as JSON holds them; None stays None."""
        if fields is None:
            return None
        return cls(**{**fields, "image_shape": tuple(fields["image_shape"])})


class SeenWeights(NamedTuple):
    """What decides on which grid the weights of some images lie.

    Attributes:
      largest: the largest of them; 0 if there are none.
      are_whole: whether all are whole numbers.
    """

    largest: float = 0.0
    are_whole: bool = True

    def merge(self, other: "SeenWeights") -> "SeenWeights":
        """Returns the same of the weights of both."""
        return SeenWeights(max(self.largest, other.largest), self.are_whole and other.are_whole)

    @classmethod
    def of(cls, weights: np.ndarray) -> "SeenWeights":
        """Returns the same of weights float64 [B]."""
        return cls(float(weights.max(initial=0)), bool((weights == np.rint(weights)).all()))


@dataclasses.dataclass(frozen=True)
class WeightsEntry:
    """The manifest's entry for the weights of the images.

    Attributes:
      column: the value of `--weight-column`.
      largest: the largest weight.
      are_whole: whether all are whole numbers.
    """

    column: str
    largest: float
    are_whole: bool


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
      image_shape: (h, w), (h, w, c) or (d,); num_features is its product.
      dtype: "uint8" or "float32".
      label_names: names of labels 0, 1, …; None in an unlabelled set.
      num_rejected: images that could not be read and are in no shard.
      num_skipped: files that lie among the images and are of no kind that is read.
      source: the input and the options that it was read with.
      fingerprint: hash of the set of (id, label, weight, pixels), independent of order and shards,
        and of the transform.
      transform: None where the shards hold the images themselves.
      thumbnails: the value of `--thumbnails`.
      weights: None where all images count alike.
    """

    image_shape: tuple[int, ...]
    num_features: int
    dtype: str
    num_images: int
    label_names: tuple[str, ...] | None
    shards: tuple[Shard, ...]
    num_rejected: int
    source: dict[str, Any]
    fingerprint: str
    format_version: int = FORMAT_VERSION
    transform: TransformFile | None = None
    num_skipped: int = 0
    thumbnails: int = 0
    weights: WeightsEntry | None = None

    @property
    def weight_column(self) -> str | None:
        """The column that the weights were read from; None where there are none."""
        return None if self.weights is None else self.weights.column

    def to_json(self) -> bytes:
        """Returns the text of manifest.json."""
        fields = dataclasses.asdict(self)
        for name in ("transform", "weights"):
            if fields[name] is None:  # so that earlier versions, without the field, can read it
                del fields[name]
        return json_text.encode(fields)

    @classmethod
    def from_json(cls, text: bytes, path: str) -> "Manifest":
        """Parses the text of manifest.json; `path` is for messages.

        Raises:
          UserError: it is not a manifest, or one of a newer format.
        """
        remedy = "shard the set again"
        try:
            fields = json.loads(text)
            version = fields["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a manifest of shards; {remedy}") from error
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: format_version {version!r}, but this version reads {FORMAT_VERSION}; "
                f"update kmeans-job or {remedy}"
            )
        try:
            names = fields.pop("label_names")
            weights = fields.pop("weights", None)
            return cls(
                image_shape=tuple(fields.pop("image_shape")),
                label_names=None if names is None else tuple(names),
                shards=tuple(Shard(**shard) for shard in fields.pop("shards")),
                transform=TransformFile.from_fields(fields.pop("transform", None)),
                weights=None if weights is None else WeightsEntry(**weights),
                **fields,
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: incomplete or damaged ({error}); {remedy}") from error


def shard_file(index: int, num_shards: int) -> str:
    """Returns the name of a shard: images-00000-of-00004.tfrecord."""
    return f"images-{index:05d}-of-{num_shards:05d}{SHARD_ENDING}"


def load_manifest(folder: str) -> Manifest:
    """Reads manifest.json and checks that exactly its files are in `folder`, with their sizes.

    Raises:
      UserError: no or no valid manifest; a file missing, extra, or of another size.
    """
    path = storage.join(folder, MANIFEST)
    if absence := storage.absence(path):
        raise UserError(f"{path}: {absence}; make the shards first: kmeans-job shard")
    manifest = Manifest.from_json(storage.read_bytes(path), path)
    expected = {
        file.file: file.num_bytes for file in (*manifest.shards, manifest.transform) if file
    }
    sizes = storage.file_sizes(folder)
    found = {name for name in sizes if _is_part(name)}
    remedy = "shard the set again"
    for name in sorted(expected.keys() - found):
        kind = "shard" if name.endswith(SHARD_ENDING) else "file"
        raise UserError(f"{storage.join(folder, name)}: this {kind} is missing; {remedy}")
    for name in sorted(found - expected.keys()):
        raise UserError(f"{storage.join(folder, name)}: not in the manifest; remove it or {remedy}")
    for name, size in expected.items():
        if sizes[name] != size:
            raise UserError(
                f"{storage.join(folder, name)}: truncated or altered: "
                f"{sizes[name]} bytes instead of {size}; {remedy}"
            )
    return manifest


def _is_part(name: str) -> bool:
    """Whether a file with this name must be in the manifest."""
    return name.endswith(SHARD_ENDING) or name in TRANSFORM_FILES

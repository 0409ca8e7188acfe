"""Sources of vectors: another source's images, seen through a transform.

The transform's file is kept beside the shards and copied to the result, so that centroids can
become pictures again, and new images the same vectors.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features import (
    Accumulator,
    Drawable,
    Feature,
    Learned,
    Sized,
    Transform,
    feature_of,
    first_feature,
    without_unit,
)
from pipeline.features.chain import Chain, ChainFeature, LearnedChainFeature
from pipeline.features.kept import keep, kept_file, read_kept
from pipeline.shards import plan
from pipeline.shards.block import Block, regrouped, split
from pipeline.shards.manifest import TransformFile
from pipeline.shards.thumbnails import with_thumbnails
from pipeline.sources.protocol import Listed, Planned, Renamable, Request, Source

if TYPE_CHECKING:
    from pipeline.sources.protocol import Found

CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Transformed:
    """A source of vectors, made of the images of another source.

    Attributes:
      source: the source of the images.
      spec: the value of `--transform`.
      path: path of the transform's file, which is written before the first vector is made.
      num_features: length of the vectors.
      transform: the content of that file; None: it is loaded for each piece.
      is_kept: whether vectors that `survey` has kept are those of these images, ids and labels.
    """

    source: Source
    spec: str
    path: str
    num_features: int
    transform: Transform | None = None
    is_kept: bool = True

    @property
    def request(self) -> Request:
        return self.source.request

    @property
    def num_images(self) -> int:
        return self.source.num_images

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def label_names(self) -> tuple[str, ...] | None:
        return self.source.label_names

    @property
    def num_skipped(self) -> int:
        return self.source.num_skipped

    def read(self, piece: Any) -> "Iterator[Found]":
        chain, kept = self._feature, kept_file(os.path.dirname(self.path), piece)
        if self.is_kept and isinstance(chain, LearnedChainFeature) and storage.exists(kept):
            last = chain.last(self.path)
            return self._vectors(read_kept(kept), last)
        return self._read(piece, self.transform or self.load(), self.num_features)

    def survey(self, piece: Any) -> "Iterator[Found]":
        """Reads what the transform is learned from: images, or vectors of steps that are ready."""
        if not isinstance(self._feature, LearnedChainFeature):
            return self.source.read(piece)
        about = self.source.image_shape, self.source.dtype
        first = _first_steps(self.spec, self.path, *about, _checksum(self.path))
        vectors = self._read(piece, first, first.steps[-1].num_features)
        return keep(vectors, kept_file(os.path.dirname(self.path), piece))

    def _read(self, piece: Any, transform: Transform, num_features: int) -> "Iterator[Found]":
        size = plan.images_per_block(4 * num_features)
        found = with_thumbnails(
            self.source.read(piece), self.source.image_shape, self.request.thumbnails, always=True
        )
        if transform.batch:  # few large images make a block, and many short vectors
            images = regrouped(found, transform.batch)
            yield from regrouped(self._vectors(images, transform), size)
        else:
            yield from self._vectors(split(found, size), transform)

    def _vectors(self, images: "Iterator[Found]", transform: Transform) -> "Iterator[Found]":
        for found in images:
            if isinstance(found, Block):
                vectors = transform.apply(found.pixels)
                self._check(vectors, found.ids)
                found = found._replace(pixels=vectors)
            yield found

    def load(self) -> Transform:
        """Loads the transform from `path`."""
        return self._feature.load(self.path, self.source.image_shape, self.source.dtype)

    def loaded(self) -> "Transformed":
        """Returns the source with its transform loaded, for a worker that reads many pieces."""
        return dataclasses.replace(self, transform=self.load())

    @property
    def is_learned(self) -> bool:
        """Whether all images are read, for `learn`, before the first vector is made."""
        return isinstance(self._feature, Learned)

    def accumulator(self) -> Accumulator:
        """Returns an empty accumulator of images, for a feature that is learned."""
        return self._learned.accumulator(math.prod(self.source.image_shape))

    def learn(self, accumulator: Accumulator) -> None:
        """Writes the transform that follows from the images in `accumulator` to `path`."""
        feature = self._learned
        content = feature.learn(accumulator, self.source.dtype)
        if isinstance(feature, LearnedChainFeature):
            content = feature.completed(self.path, content)
        storage.write_bytes(self.path, content)

    def save(self) -> None:
        """Writes the transform to `path`, unless it is learned from the images."""
        self._feature.save(self.path, self.source.image_shape, self.source.dtype)

    @property
    def _feature(self) -> Feature:
        return feature_of(self.spec)

    @property
    def _learned(self) -> Learned:
        if not isinstance(feature := self._feature, Learned):
            raise TypeError(f"{self.spec} is not learned from images")
        return feature

    def describe(self) -> TransformFile:
        """Returns the manifest's entry for the transform's file."""
        num_bytes, crc = _checksum(self.path)
        file, shape = os.path.basename(self.path), self.source.image_shape
        return TransformFile(
            self.spec, file, num_bytes, crc, shape, self.source.dtype, self.num_features
        )

    def _check(self, vectors: np.ndarray, ids: list[str]) -> None:
        """Raises UserError, naming the image, if a number of `vectors` [B, N] is not finite."""
        good = np.isfinite(vectors).all(axis=1)
        if not good.all():
            row = int(good.argmin())
            value = vectors[row][~np.isfinite(vectors[row])][0]
            raise UserError(
                f"--transform {without_unit(self.spec)[0]}: makes {value} of image {ids[row]}; "
                "mend the model, or leave the image out"
            )


@dataclasses.dataclass(frozen=True)
class TransformedListed(Transformed):
    """A source of vectors, made of the images of a source that workers list."""

    source: Listed

    def parts(self) -> list[Any]:
        return self.source.parts()

    def list_part(self, part: Any) -> Iterator[tuple[bytes, int]]:
        return self.source.list_part(part)


@dataclasses.dataclass(frozen=True)
class TransformedRenamable(Transformed):
    """A source of vectors, made of images whose ids and labels are settled at the end."""

    source: Renamable

    def renamed(self, label_names: tuple[str, ...], repeated: np.ndarray) -> Renamable:
        source = self.source.renamed(label_names, repeated)
        return dataclasses.replace(self, source=source, is_kept=False)


@functools.lru_cache(maxsize=1)  # a worker surveys many pieces, and a model takes long to load
def _first_steps(
    spec: str, path: str, image_shape: tuple[int, ...], dtype: str, checksum: tuple[int, str]
) -> Chain:
    """Loads all steps of `spec` but the last, from the file at `path` of that checksum."""
    chain = feature_of(spec)
    assert isinstance(chain, ChainFeature)
    return chain.first(path, image_shape, dtype)


def default_size(spec: str) -> tuple[int, int] | None:
    """Returns the size (h, w) that the model of `spec` takes, if it takes images of one size only.

    Raises:
      UserError: there is no such model.
    """
    feature = first_feature(spec)
    return feature.image_size() if isinstance(feature, Sized) else None


def size_before(file: TransformFile | None) -> tuple[int, int] | None:
    """Returns the size (h, w) that images get for a transform that takes those of one size."""
    if file is None or not isinstance(first_feature(file.spec), Sized):
        return None
    return file.image_shape[0], file.image_shape[1]


def transformed(source: Planned | Listed, spec: str, folder: str) -> Transformed:
    """Views `source` through the transform `spec`, whose file is to be in `folder`.

    Raises:
      UserError: such images cannot be transformed so.
    """
    feature = feature_of(spec)
    num_features = feature.num_features(source.image_shape, source.dtype)
    return _transformed(source, spec, storage.join(folder, feature.file), num_features)


def transformed_again(source: Planned | Listed, folder: str, file: TransformFile) -> Transformed:
    """Views `source` through a transform that other images were seen through before.

    Args:
      folder: of the shards or the result that holds the transform's file.

    Raises:
      UserError: the transform takes no such images, or its file was altered.
    """
    # Not at the top: it loads Pillow, which results do not need.
    from pipeline.sources.pictures.decode import shape_text

    path = storage.join(folder, file.file)
    if (source.image_shape, source.dtype) != (file.image_shape, file.dtype):
        raise UserError(
            f"--input {source.request}: {source.dtype} images of {shape_text(source.image_shape)}, "
            f"but {path} is for {file.dtype} images of {shape_text(file.image_shape)}; give such"
        )
    _check_unaltered(path, file)
    return _transformed(source, file.spec, path, file.num_features)


def load(folder: str, file: TransformFile) -> Transform:
    """Loads the transform whose file is in `folder`, of shards or of a result.

    Raises:
      UserError: it is not the file that `file` describes.
    """
    path = storage.join(folder, file.file)
    _check_unaltered(path, file)
    return feature_of(file.spec).load(path, file.image_shape, file.dtype)


def load_drawable(folder: str, file: TransformFile) -> Drawable | None:
    """Loads the transform as `load` does, if its vectors can become images again.

    Other transforms, which may take long to load, are not loaded: None.
    """
    if not feature_of(file.spec).is_drawable:
        return None
    transform = load(folder, file)
    return transform if isinstance(transform, Drawable) else None


def is_same_transform(spec: str | None, file: TransformFile | None, folder: str = "") -> bool:
    """Whether `file`, in `folder`, is the transform of `spec`, with a model of the same content.

    None stands for no transform.
    """
    if spec is None or file is None:
        return spec is None and file is None
    if spec != file.spec:
        return False
    if isinstance(feature := feature_of(spec), ChainFeature):
        return feature.is_same(storage.join(folder, file.file))
    original = feature.original
    return original is None or _checksum(original) == (file.num_bytes, file.crc32c)


def _transformed(source: Planned | Listed, spec: str, path: str, num_features: int) -> Transformed:
    if isinstance(source, Listed):
        return TransformedListed(source, spec, path, num_features)
    if isinstance(source, Renamable):
        return TransformedRenamable(source, spec, path, num_features)
    return Transformed(source, spec, path, num_features)


def _check_unaltered(path: str, file: TransformFile) -> None:
    if _checksum(path) != (file.num_bytes, file.crc32c):
        raise UserError(f"{path}: altered since it was written; shard the set again")


def _checksum(path: str) -> tuple[int, str]:
    """Returns the size of a file in bytes, and its CRC-32C."""
    num_bytes = crc = 0
    with storage.open_read(path) as file:
        while part := file.read(CHUNK_BYTES):
            num_bytes, crc = num_bytes + len(part), google_crc32c.extend(crc, part)
    return num_bytes, f"{crc:08x}"

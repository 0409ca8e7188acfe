"""Images seen as vectors: `--transform`, its file beside the manifest, the source that it makes.

The file travels with what was made from it, from the shards to the result, so that centroids can
become pictures again and new images the same vectors.
"""

import dataclasses
import math
import os
import re
from collections.abc import Iterator
from typing import Any, Protocol

import google_crc32c
import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.pca import MAX_PIXELS, Moments, Pca, principal_components
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.manifest import TransformFile
from pipeline.sources import Listed, Planned, Rejection, Request, Source

CHUNK_BYTES = 1 << 20


class Transform(Protocol):
    """What makes vectors of images."""

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Images [B, d] as vectors, float32 [B, N]."""
        ...


def specification(text: str) -> str:
    """The value of --transform, without leading zeros; raises ValueError if it is none."""
    if re.fullmatch(r"keras:.+", text):
        return text
    if found := re.fullmatch(r"pca:(\d+)", text):
        if int(found[1]):
            return f"pca:{int(found[1])}"
        raise ValueError(f"{text!r}: at least one component is needed")
    raise ValueError(f"{text!r} is neither pca:N nor keras:PATH")


def is_pca(spec: str) -> bool:
    """Whether a transform follows from the images, and is not a model that is given."""
    return spec.startswith("pca:")


@dataclasses.dataclass(frozen=True)
class Transformed:
    """A source whose images are vectors.

    Attributes:
      source: of the images.
      spec: the value of --transform.
      path: of the transform's file, which is there before the first image is read.
      num_features: length of the vectors.
      transform: what `path` holds; None: it is read for each piece.
    """

    source: Source
    spec: str
    path: str
    num_features: int
    transform: Transform | None = None

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

    def read(self, piece: Any) -> Iterator[Block | Rejection]:
        transform = self.transform or self.load()
        rows = plan.block_rows(4 * self.num_features)
        for found in self.source.read(piece):
            if isinstance(found, Rejection):
                yield found
                continue
            # Vectors longer than images would make a block too large.
            for a, b in plan.spans(0, len(found.ids), rows):
                labels = None if found.labels is None else found.labels[a:b]
                vectors = transform.apply(found.pixels[a:b])
                self._check(vectors, found.ids[a:b])
                yield Block(found.ids[a:b], labels, vectors)

    def load(self) -> Transform:
        """What `path` holds."""
        return _read(self.spec, self.path, self.source.image_shape, self.source.dtype)

    def loaded(self) -> "Transformed":
        """The same, for one process, which then reads `path` no more."""
        return dataclasses.replace(self, transform=self.load())

    def save_basis(self, moments: Moments) -> None:
        """Writes the principal components of the images whose moments these are."""
        pca = principal_components(moments, self.num_features, self.source.dtype)
        storage.write_bytes(self.path, pca.to_bytes())

    def save_model(self) -> None:
        """Copies the model that is given, if one is, to `path`."""
        if not is_pca(self.spec):
            storage.copy(self.spec.partition(":")[2], self.path)

    def describe(self) -> TransformFile:
        """What the manifest says of the transform."""
        num_bytes, crc = _checksum(self.path)
        file, shape = os.path.basename(self.path), self.source.image_shape
        return TransformFile(
            self.spec, file, num_bytes, crc, shape, self.source.dtype, self.num_features
        )

    def _check(self, vectors: np.ndarray, ids: list[str]) -> None:
        good = np.isfinite(vectors).all(axis=1)
        if not good.all():
            row = int(good.argmin())
            value = vectors[row][~np.isfinite(vectors[row])][0]
            raise UserError(
                f"--transform {self.spec}: makes {value} of image {ids[row]}; mend the model, or "
                "leave the image out"
            )


@dataclasses.dataclass(frozen=True)
class TransformedListed(Transformed):
    """A source whose images are vectors, and which workers list."""

    source: Listed

    def parts(self) -> list[Any]:
        return self.source.parts()

    def list_part(self, part: Any) -> Iterator[tuple[bytes, int]]:
        return self.source.list_part(part)


def transformed(source: Planned | Listed, spec: str, folder: str) -> Transformed:
    """`source` seen through the transform `spec`, whose file is to lie in `folder`.

    Raises:
      UserError: such images cannot be transformed so.
    """
    value = spec.partition(":")[2]
    if is_pca(spec):
        num_features, name = int(value), "transform.npz"
        _check_components(num_features, source)
    else:
        from pipeline.features.keras_model import load_embedding

        num_features = load_embedding(value, source.image_shape, source.dtype).num_features
        name = f"transform{os.path.splitext(value)[1]}"
    return _seen(source, spec, storage.join(folder, name), num_features)


def transformed_again(source: Planned | Listed, folder: str, file: TransformFile) -> Transformed:
    """`source` as the vectors that other images became, whose shards or result lie in `folder`.

    Raises:
      UserError: its images are not such as the transform is for, or its file was altered.
    """
    from pipeline.sources.decode import shape_text

    path = storage.join(folder, file.file)
    if (source.image_shape, source.dtype) != (file.image_shape, file.dtype):
        raise UserError(
            f"--input {source.request}: {source.dtype} images of {shape_text(source.image_shape)}, "
            f"but {path} is for {file.dtype} images of {shape_text(file.image_shape)}; give such"
        )
    _check_unaltered(path, file)
    return _seen(source, file.spec, path, file.num_features)


def load(folder: str, file: TransformFile) -> Transform:
    """The transform whose file lies in `folder`, in a set of shards or in a result.

    Raises:
      UserError: it is not the file that `file` describes.
    """
    path = storage.join(folder, file.file)
    _check_unaltered(path, file)
    return _read(file.spec, path, file.image_shape, file.dtype)


def load_pca(folder: str, file: TransformFile) -> Pca | None:
    """`load` of principal components, or None if the transform is another."""
    if not is_pca(file.spec):
        return None
    path = storage.join(folder, file.file)
    _check_unaltered(path, file)
    return Pca.from_bytes(storage.read_bytes(path))


def is_same_transform(spec: str | None, file: TransformFile | None) -> bool:
    """Whether `file` was made of `spec`, the content of a model included; None: no transform."""
    if spec is None or file is None:
        return spec is None and file is None
    kind, _, path = spec.partition(":")
    return spec == file.spec and (kind == "pca" or _checksum(path) == (file.num_bytes, file.crc32c))


def _seen(source: Planned | Listed, spec: str, path: str, num_features: int) -> Transformed:
    if isinstance(source, Listed):
        return TransformedListed(source, spec, path, num_features)
    return Transformed(source, spec, path, num_features)


def _check_components(count: int, source: Source) -> None:
    num_pixels = math.prod(source.image_shape)
    if num_pixels > MAX_PIXELS:
        raise UserError(
            f"--transform pca:{count}: images of {num_pixels:,} pixels, but pca takes at most "
            f"{MAX_PIXELS:,}; add --image-size or --grayscale"
        )
    if count > num_pixels:
        raise UserError(
            f"--transform pca:{count}: more components than the {num_pixels:,} pixels of an image"
        )


def _read(spec: str, path: str, image_shape: tuple[int, ...], dtype: str) -> Transform:
    if is_pca(spec):
        return Pca.from_bytes(storage.read_bytes(path))
    from pipeline.features.keras_model import load_embedding

    return load_embedding(path, image_shape, dtype)


def _check_unaltered(path: str, file: TransformFile) -> None:
    if _checksum(path) != (file.num_bytes, file.crc32c):
        raise UserError(f"{path}: altered since it was written; shard the set again")


def _checksum(path: str) -> tuple[int, str]:
    """Bytes of a file and their CRC-32C."""
    num_bytes = crc = 0
    with storage.open_read(path) as file:
        while part := file.read(CHUNK_BYTES):
            num_bytes, crc = num_bytes + len(part), google_crc32c.extend(crc, part)
    return num_bytes, f"{crc:08x}"

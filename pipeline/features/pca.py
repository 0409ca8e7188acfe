"""Principal components: sums over a set of images, the basis they yield, images as vectors.

Pixels of uint8 images are integers, so their sums and products are exact whatever the order. The
basis and the mean lie on binary grids on which the product of an image and the basis is exact in
float64, so that a vector is a function of its image and the basis, and of nothing else.

Floats are rounded to integers for the sums alone, of 18 bits relative to the power of two above the
largest number of their image, and images of each such power are summed apart. The basis need not be
more exact than that: it only has to be the same. Their products with the basis are summed in parts
that are exact.
"""

import dataclasses
import functools
import io
import math
from typing import ClassVar, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.double_double import NUMPY, row_sums

BASIS_STEP = 2.0**-24  # its multiples up to 1 are exact in float32
MEAN_STEP = 2.0**-8
# With so many pixels at most, (x − mean) · basis is less than 2⁵³ times the product of both steps,
# so exact in float64. It also bounds the d × d sums that a worker holds: 512 MiB.
MAX_PIXELS = 8192
GRID_BITS = 18  # of floats as integers: products of 36 bits, 2¹⁷ of which are exact in float64
# Integers of so many bits, times those of a basis of 24, are exact as sums of 2¹³.
PART_BITS = 15
SUMMED_ROWS = 1 << 16  # whose products are added in float64, before they are added as int64


@dataclasses.dataclass(frozen=True)
class PcaFeature:
    """The first principal components of a set of images: `--transform pca:N`."""

    num_components: int
    file: ClassVar[str] = "transform.npz"
    original: ClassVar[None] = None
    is_drawable: ClassVar[bool] = True

    def num_features(self, image_shape: tuple[int, ...], dtype: str) -> int:
        """Returns the number of components; raises UserError if such images have not as many."""
        count, num_pixels = self.num_components, math.prod(image_shape)
        if num_pixels > MAX_PIXELS:
            raise UserError(
                f"--transform pca:{count}: images of {num_pixels:,} pixels, but pca takes at most "
                f"{MAX_PIXELS:,}; add --image-size or --grayscale"
            )
        if count > num_pixels:
            raise UserError(
                f"--transform pca:{count}: more components than the {num_pixels:,} pixels of an "
                "image"
            )
        return count

    def save(self, path: str, image_shape: tuple[int, ...], dtype: str) -> None:
        """Does nothing: the components are learned first."""

    def load(self, path: str, image_shape: tuple[int, ...], dtype: str) -> "Pca":
        """Loads the components from the file at `path`, which knows its images' shape."""
        return Pca.from_bytes(storage.read_bytes(path))

    def accumulator(self, num_pixels: int) -> "Moments":
        """Returns the moments of no image."""
        return Moments(num_pixels)

    def learn(self, accumulator: "Moments", dtype: str) -> bytes:
        """Returns the content of the components' file, from the moments of all images."""
        return principal_components(accumulator, self.num_components, dtype).to_bytes()


class Sums(NamedTuple):
    """Sums over images whose numbers are multiples of a power of two.

    Attributes:
      sums: Σx, [d], multiples.
      products: Σxxᵀ, [d, d], multiples².
    """

    sums: np.ndarray
    products: np.ndarray

    def plus(self, other: "Sums | None") -> "Sums":
        """Returns the sums over both."""
        return self if other is None else Sums(*map(np.add, self, other))


class Moments:
    """Sums over images that decide the principal components.

    Exact for up to 10¹¹ uint8 images, whatever the order, and for 10⁸ float32 images as they are
    rounded.

    Attributes:
      count: n.
      by_exponent: Sums of the images whose numbers are multiples of 2 to the exponent; float64 for
        uint8 images, with the exponent 0, else int64.
    """

    def __init__(self, num_pixels: int):
        """Makes moments of no image; of how many pixels, 0, may be seen of the first one."""
        self.count = 0
        self.by_exponent: dict[int, Sums] = {}
        self._num_pixels = num_pixels

    def add(self, pixels: np.ndarray) -> None:
        """Adds images [B, d]."""
        self.count += len(pixels)
        self._num_pixels = pixels.shape[1]
        if pixels.dtype == np.uint8:
            wide = pixels.astype(np.float64)
            self._add(0, Sums(wide.sum(axis=0), wide.T @ wide))
            return
        largest = np.abs(pixels).max(axis=1)
        # x < 2ᵉ for the exponents e of `frexp`; images of zeros alone add nothing.
        exponents = np.frexp(largest)[1].astype(int) - GRID_BITS
        for exponent in np.unique(exponents[largest > 0]).tolist():
            rows = pixels[(exponents == exponent) & (largest > 0)]
            for start, stop in plan.spans(0, len(rows), SUMMED_ROWS):
                wide = np.rint(np.ldexp(rows[start:stop].astype(np.float64), -exponent))
                exact = wide.sum(axis=0), wide.T @ wide
                self._add(exponent, Sums(*(part.astype(np.int64) for part in exact)))

    def _add(self, exponent: int, sums: Sums) -> None:
        self.by_exponent[exponent] = sums.plus(self.by_exponent.get(exponent))

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets of images together: associative and commutative."""
        merged = Moments(max(self._num_pixels, other._num_pixels))
        merged.count = self.count + other.count
        for part in (self, other):
            for exponent, sums in part.by_exponent.items():
                merged._add(exponent, sums)
        return merged

    def total(self) -> Sums:
        """Returns the sums over all images, float64, the same in whatever order they were added."""
        size = self._num_pixels
        total = Sums(np.zeros(size), np.zeros((size, size)))
        for exponent in sorted(self.by_exponent):
            sums, products = self.by_exponent[exponent]
            total = total.plus(Sums(np.ldexp(sums, exponent), np.ldexp(products, 2 * exponent)))
        return total


@dataclasses.dataclass(frozen=True, eq=False)
class Pca:
    """Maps images to their coordinates along the N directions in which their set varies most.

    Attributes:
      basis: float32 [d, N], columns orthonormal to about 1e-7, by falling variance; a column is 0
        where the set has no variance left.
      mean: float64 [d], pixels.
      scale: pixels per published unit.
      variances: of the set along each column, float64 [N], published units².
      total_variance: of the set, published units².
    """

    basis: np.ndarray
    mean: np.ndarray
    scale: float
    variances: np.ndarray
    total_variance: float
    noun: ClassVar[str] = "principal components"
    batch: ClassVar[None] = None

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Makes vectors, float32 [B, N] in published units, of images [B, d]."""
        basis = self.basis.astype(np.float64)
        if pixels.dtype == np.uint8:
            return ((pixels - self.mean) @ basis / self.scale).astype("<f4")
        projected = sum(part @ basis for part in _exact_parts(pixels))
        return ((projected - self._projected_mean) / self.scale).astype("<f4")

    @functools.cached_property
    def _projected_mean(self) -> np.ndarray:
        """The mean's coordinates, float64 [N]."""
        return row_sums((self.mean[:, None] * self.basis).T, NUMPY)

    def invert(self, vectors: np.ndarray) -> np.ndarray:
        """Makes the image nearest to the mean for each of `vectors` [m, N].

        Returns:
          float32 [m, d], published units.
        """
        shifts = vectors.astype(np.float64) @ self.basis.T.astype(np.float64)
        return (shifts + self.mean / self.scale).astype(np.float32)

    @property
    def num_features(self) -> int:
        """Length of the vectors, N."""
        return self.basis.shape[1]

    @property
    def variance_share(self) -> float:
        """The share of the set's variance that the vectors keep."""
        return float(self.variances.sum() / self.total_variance) if self.total_variance else 1.0

    def to_bytes(self) -> bytes:
        """Returns the content of an .npz file, for `from_bytes`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        np.savez(file := io.BytesIO(), allow_pickle=False, **fields)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Pca":
        """Reads the content of a file that `to_bytes` made."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        scale, total_variance = float(arrays.pop("scale")), float(arrays.pop("total_variance"))
        return cls(**arrays, scale=scale, total_variance=total_variance)


def _exact_parts(vectors: np.ndarray) -> list[np.ndarray]:
    """Cuts float32 [B, d] into parts, float64, whose products with a basis are exact but the last.

    The largest part comes last, to which the others are then added; the rest is too small for the
    order of its terms to matter.
    """
    rest, parts = vectors.astype(np.float64), []
    exponents = np.frexp(np.abs(rest).max(axis=1, keepdims=True))[1]
    for number in (1, 2):
        step = np.ldexp(1.0, exponents - number * PART_BITS)
        part = np.rint(rest / step) * step
        rest = rest - part
        parts.append(part)
    return [rest, *parts[::-1]]


def principal_components(moments: Moments, num_components: int, dtype: str) -> Pca:
    """Computes the first `num_components` principal components of a set of images of `dtype`."""
    count, scale = max(moments.count, 1), 255.0 if dtype == "uint8" else 1.0
    sums, products = moments.total()
    mean = sums / count
    covariance = (products - np.outer(sums, sums) / count) / count
    columns, variances = _leading(covariance, num_components)
    basis = np.rint(columns / BASIS_STEP) * BASIS_STEP
    # An eigenvector may point either way: here its largest entry, the first of equal ones, is
    # positive, on every machine.
    farthest = np.abs(basis).argmax(axis=0)
    basis *= np.where(basis[farthest, np.arange(num_components)] < 0, -1, 1)
    if dtype == "uint8":
        mean = np.rint(mean / MEAN_STEP) * MEAN_STEP
    total = float(np.trace(covariance))
    return Pca(basis.astype("<f4"), mean, scale, variances / scale**2, max(0.0, total) / scale**2)


def _leading(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes the `count` leading eigenvectors [d, count] and eigenvalues [count], largest first.

    Both are 0 where the set has no variance but rounding.
    """
    from scipy import linalg  # takes a quarter of a second to load, and only this needs it

    size = len(covariance)
    variances, columns = linalg.eigh(covariance, subset_by_index=(size - count, size - 1))
    variances, columns = variances[::-1], columns[:, ::-1]
    # Where there is no variance, any direction is an eigenvector, and machines differ in theirs.
    varies = variances > size * np.finfo(np.float64).eps * max(float(variances[0]), 0.0)
    return columns * varies, variances * varies

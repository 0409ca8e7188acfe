"""Principal components: what is added up over a set, the basis that follows, images as vectors.

Pixels of uint8 images are integers, so their sums and products are exact whatever the order. The
basis and the mean lie on binary grids on which the product of an image and the basis is exact in
float64, so that a vector is a function of its image and the basis, and of nothing else.
"""

import dataclasses
import io

import numpy as np

BASIS_STEP = 2.0**-24  # whose multiples up to 1 are float32
MEAN_STEP = 2.0**-8
# (x − mean) · basis is then a multiple of both steps below 2⁵³ of them; d² also fits memory.
MAX_PIXELS = 8192


class Moments:
    """What decides the principal components; `merge` is associative and commutative.

    Exact for uint8 images up to 10¹¹ of them; for float32 rounded as float64.

    Attributes:
      count: n.
      sums: Σx, float64 [d], pixels.
      products: Σxxᵀ, float64 [d, d], pixels².
    """

    def __init__(self, num_pixels: int):
        self.count = 0
        self.sums = np.zeros(num_pixels)
        self.products = np.zeros((num_pixels, num_pixels))

    def add(self, pixels: np.ndarray) -> None:
        """Adds images [B, d]."""
        wide = pixels.astype(np.float64)
        self.count += len(wide)
        self.sums += wide.sum(axis=0)
        self.products += wide.T @ wide

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of images together."""
        merged = Moments(len(self.sums))
        merged.count = self.count + other.count
        np.add(self.sums, other.sums, out=merged.sums)
        np.add(self.products, other.products, out=merged.products)
        return merged


@dataclasses.dataclass(frozen=True, eq=False)
class Pca:
    """Images as their coordinates along the N directions in which their set varies most.

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

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Images [B, d] as vectors, float32 [B, N] in published units."""
        return ((pixels - self.mean) @ self.basis.astype(np.float64) / self.scale).astype("<f4")

    def invert(self, vectors: np.ndarray) -> np.ndarray:
        """The images nearest to the mean that have `vectors` [m, N]; float32, published units."""
        shifts = vectors.astype(np.float64) @ self.basis.T.astype(np.float64)
        return (shifts + self.mean / self.scale).astype(np.float32)

    @property
    def variance_share(self) -> float:
        """How much of the set's variance the vectors keep."""
        return float(self.variances.sum() / self.total_variance) if self.total_variance else 1.0

    def to_bytes(self) -> bytes:
        """An .npz file's content; `from_bytes` reads it."""
        np.savez(file := io.BytesIO(), allow_pickle=False, **vars(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Pca":
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        scale, total_variance = float(arrays.pop("scale")), float(arrays.pop("total_variance"))
        return cls(**arrays, scale=scale, total_variance=total_variance)


def principal_components(moments: Moments, num_components: int, dtype: str) -> Pca:
    """The `num_components` principal components of a set of images of `dtype`.

    The entry of a column that is farthest from 0, the first of equal ones, is positive.
    """
    count, scale = max(moments.count, 1), 255.0 if dtype == "uint8" else 1.0
    mean = moments.sums / count
    covariance = (moments.products - np.outer(moments.sums, moments.sums) / count) / count
    columns, variances = _leading(covariance, num_components)
    basis = np.rint(columns / BASIS_STEP) * BASIS_STEP
    farthest = np.abs(basis).argmax(axis=0)
    basis *= np.where(basis[farthest, np.arange(num_components)] < 0, -1, 1)
    if dtype == "uint8":
        mean = np.rint(mean / MEAN_STEP) * MEAN_STEP
    total = float(np.trace(covariance))
    return Pca(basis.astype("<f4"), mean, scale, variances / scale**2, max(0.0, total) / scale**2)


def _leading(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors [d, count] and eigenvalues [count], largest first; 0 where rounding is all."""
    from scipy import linalg  # a quarter of a second that only this needs

    size = len(covariance)
    variances, columns = linalg.eigh(covariance, subset_by_index=(size - count, size - 1))
    variances, columns = variances[::-1], columns[:, ::-1]
    # Without variance any direction would do, and each machine would find another.
    varies = variances > size * np.finfo(np.float64).eps * max(float(variances[0]), 0.0)
    return columns * varies, variances * varies

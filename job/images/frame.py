"""The coordinates in which float32 images are clustered, and back.

Float32 sets may lie far from 0, or be so large or small that squares leave the range of float32. So
each pixel x is kept as y = (x − origin) · 2^−exponent, which is exact: the origin is taken only
where each difference is a float32 again. Then scores in float32 tell images apart as well as if the
set lay around 0. The frame depends on the set alone, not on how its images are divided.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from job import hashing
from job.distribute.replicas import Replicas
from job.images import places
from pipeline.errors import UserError
from pipeline.shards.pixel_scale import FAR, Units

SAMPLE_IMAGES = 255  # of which the origin is the median
# TensorFlow takes float32 below 2^-126 for 0. Relative to this one they do not matter.
LEAST_LARGEST = 1e-31
LEAST_EXPONENT = -126
# Of |y|: squares of such numbers, summed over all features, are finite in float32.
MOST_EXPONENT = 55
MANTISSA_BITS = 24
SIGN = np.uint32(1 << 31)


class Frame(NamedTuple):
    """Coordinates in which images are clustered.

    Attributes:
      origin: float32 [d], published units.
      exponent: a unit of these coordinates is 2^exponent published units.
    """

    origin: np.ndarray
    exponent: int

    @classmethod
    def none(cls, num_features: int) -> "Frame":
        """Makes the frame of images that are clustered as they are, such as those of bytes."""
        return cls(np.zeros(num_features, np.float32), 0)

    def inside(self, images: np.ndarray) -> np.ndarray:
        """Converts images float32 [n, d]; exact."""
        # Two factors, since 2^149 is more than float32 holds.
        half = -self.exponent // 2
        near = images - self.origin if self.origin.any() else images
        return near * np.float32(2.0**half) * np.float32(2.0 ** (-self.exponent - half))

    def scaled(self, norms: np.ndarray) -> np.ndarray:
        """Converts ‖x‖² of images from published units² where the origin is 0; exact."""
        return np.ldexp(norms, -2 * self.exponent)

    def centroids_inside(self, centroids: np.ndarray) -> np.ndarray:
        """Converts published centroids [k, d]; float64."""
        return np.ldexp(centroids.astype(np.float64) - self.origin, -self.exponent)

    def published(self, centroids: np.ndarray) -> np.ndarray:
        """Converts centroids float64 [k, d] of this frame to published units."""
        return np.ldexp(centroids, self.exponent) + self.origin

    def published_squared(self, distance: float) -> float:
        """Converts a squared distance of this frame to published units²."""
        return math.ldexp(distance, 2 * self.exponent)


class Extent(NamedTuple):
    """How large the pixels of some images are.

    Attributes:
      largest: |x| of each column, the bits of a float32, uint32 [d].
      smallest: the smallest |x| but 0, the bits of a float32, less 1; uint32.
    """

    largest: np.ndarray
    smallest: np.uint32

    @classmethod
    def none(cls, num_features: int) -> "Extent":
        """Makes the extent of no image."""
        return cls(np.zeros(num_features, np.uint32), ~np.uint32(0))

    def add(self, images: np.ndarray) -> "Extent":
        """Returns the extent with more images float32 [n, d]."""
        if not len(images):
            return self
        # Without their sign, floats are ordered like the integers of the same bits. That of 0 wraps
        # around below 0, to the largest.
        bits = images.view(np.uint32) & ~SIGN
        largest = np.maximum(self.largest, bits.max(axis=0))
        bits -= np.uint32(1)
        return Extent(largest, min(self.smallest, bits.min()))

    def of_all(self, replicas: Replicas) -> "Extent":
        """Returns the extent of all workers' images."""
        mine = np.append(self.largest, self.smallest).astype(np.int64)
        every = replicas.all_gather(mine).astype(np.uint32)
        return Extent(every[:, :-1].max(axis=0), every[:, -1].min())

    @property
    def columns(self) -> np.ndarray:
        """The largest |x| of each column, float32 [d]."""
        return self.largest.view(np.float32)

    @property
    def exponents(self) -> tuple[int, int]:
        """(t, l) with |x| < 2^t, and |x| ≥ 2^l unless it is 0."""
        largest = self.largest.max()
        smallest = (self.smallest + np.uint32(1)) if largest else largest
        (_, top), (_, low) = (
            math.frexp(bits.astype(np.uint32).view(np.float32)) for bits in (largest, smallest)
        )
        return top, low - 1


def find_frame(
    extent: Extent,
    sample: Callable[[], np.ndarray],
    moved: Callable[[np.ndarray], tuple[Extent, np.ndarray]],
    folder: str,
) -> tuple[Frame, Extent]:
    """Finds the frame of a set of float32 images.

    Args:
      extent: of all images.
      sample: reads some images, the same for any division of the set; float32 [m, d].
      moved: measures all images from an origin [d]: their extent, and in which columns [d] some
        differences are no float32.
      folder: of the shards, for errors.

    Returns:
      The frame, and the extent of the images as seen from its origin.

    Raises:
      UserError: float32 arithmetic cannot tell such images apart.
    """
    largest = float(extent.columns.max())
    if 0 < largest < LEAST_LARGEST:
        raise UserError(
            f"{folder}: no value is larger than {largest:.3g}, where float32 ends; multiply the "
            "images by a power of ten"
        )
    origin = _origin(sample(), extent.columns)
    while origin.any():
        seen, lossy = moved(origin)
        if not lossy.any():
            extent = seen
            break
        origin[lossy] = 0
    top, low = extent.exponents
    exponent = min(top, low - LEAST_EXPONENT)
    if top - exponent > MOST_EXPONENT:
        raise UserError(
            f"{folder}: values from {2.0**low:.0e} to {2.0**top:.0e}, too far apart for float32 "
            "arithmetic; leave out the columns or images that are so different"
        )
    return Frame(origin, exponent), extent


def _origin(sample: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Chooses an origin [d] amid the images of `sample` [m, d]; 0 where they lie around 0.

    It is rounded to multiples of the last bit of the largest values, so that differences from these
    are float32, too.
    """
    ordered = np.sort(sample.astype(np.float64), axis=0)
    quarter, middle, rest = (ordered[len(ordered) * part // 4] for part in (1, 2, 3))
    quantum = np.ldexp(1.0, np.frexp(largest)[1] + 2 - MANTISSA_BITS)
    rounded = np.rint(middle / quantum) * quantum
    return np.where(np.abs(middle) > FAR * (rest - quarter), rounded, 0.0).astype(np.float32)


def extent_from(
    origin: np.ndarray, parts: Iterable[np.ndarray], replicas: Replicas
) -> tuple[Extent, np.ndarray]:
    """Measures the images of all workers as seen from `origin` [d].

    Args:
      parts: of this worker's images, float32 [m, d] each.

    Returns:
      Their extent; the columns in which a difference is no float32, bool [d].
    """
    extent, lossy = Extent.none(len(origin)), np.zeros(len(origin), np.int64)
    for images in parts:
        differences = images - origin
        lossy += (differences.astype(np.float64) + origin != images).any(axis=0)
        extent = extent.add(differences)
    return extent.of_all(replicas), replicas.all_reduce([lossy])[0] > 0


def sample_of(
    replicas: Replicas,
    digests: list[np.ndarray],
    read: Callable[[int, list[int]], np.ndarray],
    num_features: int,
) -> np.ndarray:
    """Reads the images with the smallest hashes; float32 [m, d].

    Args:
      digests, read: as `Images` and `places.take` have them.
    """
    keys = [hashing.hashes(part, 0, "origin") for part in digests]
    where = [place for _, place in places.smallest(replicas, [keys], SAMPLE_IMAGES)]
    return places.take(replicas, where, read, num_features).astype(np.float32)


def with_quanta(units: Units, frame: Frame, extent: Extent, num_images: int) -> Units:
    """Adds to `units` the quanta of the sums of so many images, whose extent is that in `frame`."""
    # Sums of so many integers of so many bits are exact in float64.
    bits = 53 - max(1, math.ceil(math.log2(num_images)))
    top, low = (exponent - frame.exponent for exponent in extent.exponents)
    number = max(1, math.ceil((top - low + MANTISSA_BITS) / bits))
    return units._replace(quanta=tuple(2.0 ** (top - bits * (n + 1)) for n in range(number)))

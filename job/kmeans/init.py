"""Initial centroids: images that one of INITS chooses, or those of a file.

Every choice is the image with the smallest key, and a key depends on the image alone: so it does
not matter on which replica, or in which order, the images lie.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from job import hashing
from job.config import FitConfig
from job.images.protocol import Images
from job.kmeans import INITS, load
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.pixel_scale import on_grid

# Of initial centroids, in a frame in which the images are about as large as 1.
FARTHEST = 2.0**56


@dataclasses.dataclass(frozen=True)
class Seeding:
    """What an initialisation is asked for.

    Attributes:
      k: number of images to choose.
      seed: of all randomness.
      purpose: of this choice; a draw for another purpose is independent of it.
      progress: called with how many images are chosen, where they are chosen one by one.
      chosen: pixels [d] of the images chosen so far, where they are chosen one by one. It may begin
        with those of an interrupted run, or of a run with a larger k. Each further image is
        appended before `progress` is called.
    """

    k: int
    seed: int
    purpose: str
    progress: Callable[[int], None]
    chosen: list[np.ndarray]


def initial_centroids(
    images: Images,
    config: FitConfig,
    restart: int,
    progress: Callable[[int], None],
    chosen: list[np.ndarray],
) -> np.ndarray:
    """Makes the centroids that restart number `restart` begins with.

    Returns:
      float64 [k, d], published units, on the grid.

    Args:
      progress, chosen: see `Seeding`.

    Raises:
      UserError: fewer distinct images than k, or a bad file of centroids.
    """
    if config.init not in INITS:
        return given_centroids(f"--init {config.init}", read_centroids(config, images), images)
    purpose = f"initial centroids/{restart}"
    seeding = Seeding(config.k, config.seed, purpose, progress, chosen)
    pixels = load(INITS[config.init])(images, seeding)
    return on_grid(pixels.astype(np.float64) / images.units.scale, images.units)


def random_initial_images(images: Images, seeding: Seeding) -> np.ndarray:
    """Returns the pixels [k, d] of k images drawn at random."""
    return random_images(images, seeding.k, seeding.seed, seeding.purpose)


def random_images(images: Images, count: int, seed: int, purpose: str) -> np.ndarray:
    """Draws `count` images without replacement: pixels of those with the smallest hashes."""
    keys = [hashing.hashes(part, seed, purpose) for part in images.digests]
    return images.take([place for *_, place in images.smallest([keys], count)])


def read_centroids(config: FitConfig, images: Images) -> np.ndarray:
    """Reads the file of centroids that `--init` names; float64 [k, d].

    Raises:
      UserError: no such file, or it does not fit k, the images or their range.
    """
    path, shape = config.init, (config.k, images.num_features)
    try:
        with storage.open_read(path) as file:
            centroids = np.load(file, allow_pickle=False)
    except (UserError, ValueError, EOFError) as error:
        raise UserError(f"--init {path}: cannot be read as a .npy file ({error})") from error
    if centroids.shape != shape:
        raise UserError(
            f"--init {path}: shape {centroids.shape}, but --k {config.k} and images of "
            f"{images.num_features} pixels need {shape}"
        )
    if centroids.dtype.kind not in "fiu" or not np.isfinite(centroids).all():
        raise UserError(f"--init {path}: holds values that are not finite numbers")
    if images.units.step and not (centroids.min() >= 0 and centroids.max() <= 1):
        raise UserError(
            f"--init {path}: values {centroids.min():g} … {centroids.max():g}, but those of "
            "uint8 images lie in 0 … 1: divide by 255"
        )
    return centroids.astype(np.float64)


def given_centroids(where: str, centroids: np.ndarray, images: Images) -> np.ndarray:
    """Moves published centroids [k, d] into the frame of `images`; float64, on the grid.

    Args:
      where: where they come from, for errors.

    Raises:
      UserError: they are so far from all images that squares of their values leave float32.
    """
    inside = images.frame.centroids_inside(centroids)
    if np.abs(inside).max() > FARTHEST:
        raise UserError(
            f"{where}: values up to {np.abs(centroids).max():.3g}, far larger than those of "
            "the images; give centroids that lie among the images"
        )
    return on_grid(inside, images.units)


def too_few_distinct(distinct: int, k: int) -> UserError:
    """Makes the error for a set with fewer distinct images than clusters."""
    return UserError(f"--k {k}: the set has only {distinct} distinct images; use --k {distinct}")

"""Initial centroids: random images, k-means++, or given ones; and images for empty clusters.

Every choice is a minimum over the images of keys that depend on the image alone, so it does not
matter where the images lie.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from job import hashing
from job.config import FitConfig
from job.images.protocol import Images
from job.kmeans import kmeans_parallel as oversampling
from job.kmeans.scores import squared_distances_to
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.pixel_scale import on_grid


def initial_centroids(
    images: Images,
    config: FitConfig,
    restart: int,
    progress: Callable[[int], None],
    chosen: list[np.ndarray],
) -> np.ndarray:
    """Centroids [k, d] to start restart number `restart` from; float64, published units.

    Args:
      progress: told how many centroids there are.
      chosen: images chosen already, by an earlier run that was killed or for a larger k; those
        chosen now are appended before `progress` is told.

    Raises:
      UserError: fewer distinct images than k, or a bad file of centroids.
    """
    purpose = f"initial centroids/{restart}"
    if config.init == "random":
        pixels = random_images(images, config.k, config.seed, purpose)
    elif config.init == "k-means++":
        pixels = kmeans_plus_plus(images, config.k, config.seed, purpose, progress, chosen)
    elif config.init == "k-means||":
        pixels = kmeans_parallel(images, config.k, config.seed, purpose)
    else:
        return on_grid(read_centroids(config, images), images.units)
    return on_grid(pixels.astype(np.float64) / images.units.scale, images.units)


def random_images(images: Images, count: int, seed: int, purpose: str) -> np.ndarray:
    """Pixels of `count` images drawn without replacement: those with the smallest hash."""
    keys = [hashing.hashes(part, seed, purpose) for part in images.digests]
    return images.take([place for *_, place in images.smallest([keys], count)])


def kmeans_plus_plus(
    images: Images,
    k: int,
    seed: int,
    purpose: str,
    progress: Callable[[int], None],
    chosen: list[np.ndarray],
) -> np.ndarray:
    """Pixels of k images, each drawn with probability proportional to D².

    Arthur, Vassilvitskii: k-means++, the advantages of careful seeding (SODA 2007). The draw is an
    exponential race: the image with the smallest −ln(u)/D² wins with probability D²/Σ D².

    Raises:
      UserError: fewer distinct images than k.
    """
    if not chosen:
        chosen.append(random_images(images, 1, seed, f"{purpose}/0")[0])
    approach = images.compile(_approach)
    nearest = images.state(lambda count: np.full(count, np.inf))
    for pixels in chosen[:-1] if len(chosen) < k else ():
        nearest, _ = approach(nearest, pixels)
    while len(chosen) < k:
        progress(len(chosen))
        nearest, (potential,) = approach(nearest, chosen[-1])
        if potential == 0:
            raise too_few_distinct(len(chosen), k)
        hashes = [hashing.hashes(part, seed, f"{purpose}/{len(chosen)}") for part in images.digests]
        squared = images.local(nearest)
        keys = [hashing.race(*pair) for pair in zip(hashes, squared, strict=True)]
        ((*_, place),) = images.smallest([keys, hashes], 1)
        chosen.append(images.take([place])[0])
    progress(k)
    return np.stack(chosen)


def _approach(images, squared_norm, nearest, chosen):
    """D² to the nearest chosen image, now that there is one more; and Σ D²."""
    nearest = tf.minimum(nearest, squared_distances_to(images, squared_norm, chosen))
    return nearest, [tf.reduce_sum(nearest)]


def kmeans_parallel(images: Images, k: int, seed: int, purpose: str) -> np.ndarray:
    """Pixels of k images by k-means||: see kmeans_parallel.py.

    Raises:
      UserError: fewer distinct images than k.
    """
    first = random_images(images, 1, seed, f"{purpose}/0")
    pixels, weights = oversampling.candidates(images, first, k, seed, purpose)
    rows = oversampling.reduce_weighted(pixels, weights, k, seed, purpose)
    if len(rows) < k:
        raise too_few_distinct(len(rows), k)
    return pixels[rows]


def read_centroids(config: FitConfig, images: Images) -> np.ndarray:
    """The centroids in the file `--init`; float64 [k, d].

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


def too_few_distinct(distinct: int, k: int) -> UserError:
    """The error for a set with fewer distinct images than clusters."""
    return UserError(f"--k {k}: the set has only {distinct} distinct images; use --k {distinct}")

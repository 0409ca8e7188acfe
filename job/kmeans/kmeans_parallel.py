"""k-means||: initial centroids for large k in a few passes.

Bahmani, Moseley, Vattani, Kumar, Vassilvitskii: Scalable k-means++ (PVLDB 2012). In each round an
image becomes a candidate with probability ℓ·D²/Σ D², where D is its distance to the nearest
candidate so far. Each candidate is then weighted by how many images it is nearest to, and a
weighted k-means++ draws k of the candidates.
"""

import math

import numpy as np
import tensorflow as tf

from job import hashing
from job.images.places import Place
from job.images.protocol import Images
from job.images.rows import squared_pixel_norms
from job.kmeans.init import Seeding, random_images, too_few_distinct, weighed
from job.kmeans.scores import nearest_centroids, scorer_of, squared_distances
from pipeline.shards.pixel_scale import on_grid

ROUNDS = 5
OVERSAMPLING = 0.5  # ℓ / k
ROUGH = 2.0**-36  # relative error of a squared distance that is a difference of sums of squares


def initial_images(images: Images, seeding: Seeding) -> np.ndarray:
    """Chooses k images by k-means||; returns their pixels [k, d].

    Raises:
      UserError: fewer distinct images than k.
    """
    k, seed, purpose = seeding.k, seeding.seed, seeding.purpose
    first = random_images(images, 1, seed, f"{purpose}/0")
    pixels, weights = candidates(images, first, k, seed, purpose)
    rows = reduce_weighted(pixels, weights, k, seed, purpose)
    if len(rows) < k:
        raise too_few_distinct(len(rows), k)
    return pixels[rows]


def candidates(
    images: Images, first: np.ndarray, k: int, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draws candidates, round by round, and weights them.

    Args:
      first: pixels [1, d] of the first candidate.

    Returns:
      Pixels [m, d] of the candidates, of which some may be equal; and how many images are nearest
      to each, float64 [m]. At least k, unless the set has fewer distinct images.
    """
    approach = images.compile(_approach, images.units)
    state = images.state(lambda count: (np.full(count, np.inf), np.zeros(count, np.int64)))
    parts, number, rounds = [first], 0, 0
    while True:
        new = parts[-1].astype(np.float64) / images.units.scale
        scorer = scorer_of(on_grid(new, images.units), images.units, images.precision)
        state, _ = approach(state, (scorer, np.int64(number)))
        # Which images become candidates depends on it, so that it must not depend on their order.
        potential = images.total(images.local(state[0]))
        number += len(new)
        if potential == 0 or (rounds >= ROUNDS and number >= k):
            break
        drawn = images.take([])
        while not len(drawn):  # with a small ℓ a round may draw none
            rounds += 1
            round_purpose = f"{purpose}/{rounds}"
            drawn = images.take(_draw(images, state[0], k, potential, seed, round_purpose))
        parts.append(drawn)
    counted = state[1:] if images.copies is None else (state[1], images.copies)
    _, (weights,) = images.compile(_count_nearest)(counted, np.zeros(number))
    return np.concatenate(parts), weights


def _draw(
    images: Images, nearest, k: int, potential: float, seed: int, purpose: str
) -> list[Place]:
    """Draws one round's candidates: images whose random number is below ℓ·D²/Σ D².

    Args:
      nearest: D² to the nearest candidate of each image, a state.
      potential: Σ D².

    Returns:
      Their places, by that number in ascending order.
    """
    rate = k * OVERSAMPLING / potential
    hashes = [hashing.hashes(part, seed, purpose) for part in images.digests]
    keys = []
    for part, squared in zip(hashes, weighed(images, images.local(nearest)), strict=True):
        number = hashing.uniforms(part)
        keys.append(np.where(number < rate * squared, number, np.inf))
    # At most ℓ are expected; ten standard deviations more never happen.
    expected = k * OVERSAMPLING
    limit = int(expected + 10 * math.sqrt(expected) + 10)
    found = images.smallest([keys, hashes], min(limit, images.num_images))
    return [place for number, _, place in found if number < np.inf]


def _approach(images, squared_norm, state, shared, units):
    """A step: keeps the nearest candidate of each image and its D², with new ones; no sums."""
    nearest, owner = state
    scorer, first = shared
    clusters = nearest_centroids(images, squared_norm, scorer, units).clusters
    squared = squared_distances(images, squared_norm, clusters, scorer, units)
    if units.step:
        squared = tf.round(squared * units.scale**2)  # in pixels² an integer, whose sums are exact
    nearer = squared < nearest
    nearest = tf.where(nearer, squared, nearest)
    owner = tf.where(nearer, clusters + first, owner)
    return (nearest, owner), []


def _count_nearest(images, squared_norm, state, empty):
    """A step: counts the images nearest to each candidate; `empty` has a row for each of them."""
    owner, *copies = state
    each = copies[0] if copies else tf.ones_like(squared_norm)
    counts = tf.math.unsorted_segment_sum(each, owner, tf.shape(empty)[0])
    return state, [counts]


def reduce_weighted(
    pixels: np.ndarray, weights: np.ndarray, k: int, seed: int, purpose: str
) -> np.ndarray:
    """Chooses k of the candidates [m, d] by weighted k-means++.

    Returns:
      Their rows, int64 [k]; fewer if fewer are distinct.
    """
    wide = pixels.astype(np.float64)
    squared_norm = squared_pixel_norms(pixels)
    rows: list[int] = []
    nearest = np.ones(len(pixels))  # the first is drawn by weight alone
    while len(rows) < k:
        hashes = hashing.hashes(
            np.arange(len(pixels), dtype=np.uint64), seed, f"{purpose}/reduce/{len(rows)}"
        )
        rows.append(int(np.argmin(hashing.race(hashes, weights * nearest))))
        if len(rows) == 1:
            nearest[:] = np.inf
        _lower(nearest, wide, squared_norm, rows[-1])
        if not nearest.any():
            break
    return np.array(rows)


def _lower(nearest: np.ndarray, wide: np.ndarray, squared_norm: np.ndarray, row: int) -> None:
    """Lowers the squared distances `nearest` [m] to those to candidate `row` where it is nearer.

    Args:
      wide: all candidates, float64 [m, d]; squared_norm: ‖x‖² of each, float64 [m].
    """
    sums = squared_norm + squared_norm[row]
    # Good enough to tell which candidates cannot be nearer. The others' distances are summed up
    # from differences, in an order that depends on d alone; exact integers for bytes.
    rough = sums - 2 * (wide @ wide[row]) - ROUGH * sums
    near = np.flatnonzero(rough <= nearest)
    squared = np.square(wide[near] - wide[row]).sum(axis=1)
    nearest[near] = np.minimum(nearest[near], squared)

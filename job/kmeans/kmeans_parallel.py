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
from pipeline.shards import plan
from pipeline.shards.pixel_scale import on_grid

ROUNDS = 5
OVERSAMPLING = 0.5  # ℓ / k
ROUGH = 2.0**-36  # relative error of a squared distance that is a difference of sums of squares
CHOSEN_AT_A_TIME = 64  # rows whose distances to all candidates are one product of matrices
LOWERED_AT_A_TIME = 2_048  # candidates, so that what a product needs does not grow with them


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
    numbers = np.arange(len(pixels), dtype=np.uint64)
    rows: list[int] = []
    nearest = np.ones(len(pixels))  # the first is drawn by weight alone
    seen = 0  # how many of the rows `nearest` knows
    while len(rows) < k:
        if len(rows) == 1:
            nearest[:] = np.inf
        if len(rows) == 1 or len(rows) - seen == CHOSEN_AT_A_TIME:
            _lower(nearest, wide, squared_norm, rows[seen:])
            seen = len(rows)
        hashes = hashing.hashes(numbers, seed, f"{purpose}/reduce/{len(rows)}")
        row = _winner(hashes, weights, nearest, wide, rows[seen:])
        if not weights[row] * nearest[row]:
            break
        rows.append(row)
    return np.array(rows)


def _winner(
    hashes: np.ndarray, weights: np.ndarray, nearest: np.ndarray, wide: np.ndarray, new: list[int]
) -> int:
    """Finds the candidate that wins the race by weight times squared distance.

    Most distances are as they were before the `new` rows were chosen, and distances only fall: then
    keys only rise. So it is enough to bring up to date whichever candidate seems to win, until the
    winner is one of those.

    Args:
      nearest: squared distances [m] as they were; of the candidates looked at they are lowered.
    """
    keys = hashing.race(hashes, weights * nearest)
    known: set[int] = set()
    while (row := int(np.argmin(keys))) not in known:
        known.add(row)
        if new:
            squared = np.square(wide[new] - wide[row]).sum(axis=1)
            nearest[row] = min(nearest[row], squared.min())
            only = slice(row, row + 1)
            keys[row] = hashing.race(hashes[only], weights[only] * nearest[only])[0]
    return row


def _lower(nearest: np.ndarray, wide: np.ndarray, squared_norm: np.ndarray, new: list[int]) -> None:
    """Lowers the squared distances `nearest` [m] to those to the `new` rows that are nearer.

    Args:
      wide: all candidates, float64 [m, d]; squared_norm: ‖x‖² of each, float64 [m].
    """
    for start, stop in plan.spans(0, len(wide), LOWERED_AT_A_TIME):
        own = slice(start, stop)
        sums = squared_norm[own, None] + squared_norm[new]
        # Good enough to tell which rows cannot be the nearest. The others' distances are summed up
        # from differences, in an order that depends on d alone; exact integers for bytes.
        rough, error = sums - 2 * (wide[own] @ wide[new].T), ROUGH * sums
        least = np.minimum(nearest[own], (rough + error).min(axis=1))
        near, which = np.nonzero(rough - error <= least[:, None])
        for a, b in plan.spans(0, len(near), LOWERED_AT_A_TIME):
            some = start + near[a:b]
            squared = np.square(wide[some] - wide[new][which[a:b]]).sum(axis=1)
            np.minimum.at(nearest, some, squared)

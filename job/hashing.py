"""Randomness as a hash of (seed, purpose, image id): the same wherever an image lies."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

BLOCK = 1 << 16  # images whose hashes are made at a time


def digests(ids: Iterable[str]) -> np.ndarray:
    """Hashes each image's id to 64 bits; uint64 [n]."""
    joined = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def of_copies(digests: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Makes a digest for each copy of the images with these digests; uint64.

    Args:
      repeats: how many copies of each there are, int64 [n]. The first one keeps the digest.
    """
    starts = np.cumsum(repeats) - repeats
    numbers = np.arange(repeats.sum(), dtype=np.uint64) - np.repeat(starts, repeats).astype("u8")
    own = np.repeat(digests, repeats)
    return np.where(numbers == 0, own, _mixed(own ^ _mixed(numbers)))


def hashes(digests: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Makes 64 random bits of each image's digest, for one purpose of one seed; uint64 [n]."""
    name = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    key = np.frombuffer(name, "<u8")[0]
    return _by_block(lambda part: _mixed(part ^ key), np.uint64, digests)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Mixes the bits of words, uint64 [n].

    The mixing is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
    generators, OOPSLA 2014).
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def _by_block(function: Callable, dtype: type, *arrays: np.ndarray) -> np.ndarray:
    """Calls a function of each element block by block: what it makes on its way stays small."""
    made: np.ndarray = np.empty(len(arrays[0]), dtype)
    for start in range(0, len(made), BLOCK):
        made[start : start + BLOCK] = function(*(part[start : start + BLOCK] for part in arrays))
    return made


def uniforms(hashes: np.ndarray) -> np.ndarray:
    """Converts hashes to numbers strictly between 0 and 1; float64 [n]."""
    # 52 bits, plus a half: with 53 bits the largest would be rounded to 1.
    return ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def race(hashes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Makes keys −ln(u) / weight: a row has the smallest with probability ∝ its weight.

    Args:
      hashes: uint64 [n]; weights: float64 [n], not negative.

    Returns:
      float64 [n], infinite where the weight is 0.
    """

    def keys(words: np.ndarray, own: np.ndarray) -> np.ndarray:
        return -np.log(uniforms(words)) / own

    with np.errstate(divide="ignore"):
        return _by_block(keys, np.float64, hashes, weights)

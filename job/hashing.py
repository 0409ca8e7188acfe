"""Randomness as a hash of (seed, purpose, image id): the same wherever an image lies."""

import hashlib
from collections.abc import Iterable

import numpy as np


def digests(ids: Iterable[str]) -> np.ndarray:
    """Hashes each image's id to 64 bits; uint64 [n]."""
    joined = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def hashes(digests: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Makes 64 random bits of each image's digest, for one purpose of one seed; uint64 [n].

    The mixing is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
    generators, OOPSLA 2014).
    """
    key = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    mixed = digests ^ np.frombuffer(key, "<u8")[0]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


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
    with np.errstate(divide="ignore"):
        return -np.log(uniforms(hashes)) / weights

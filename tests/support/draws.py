"""Images that are drawn, and whether they are drawn as often as they should be."""

from collections.abc import Callable

import numpy as np
from scipy.stats import chi2

LINE = np.array([[0, 3], [10, 3], [40, 3], [100, 3]], np.uint8)


def draws(function: Callable[[int], np.ndarray], count: int) -> dict:
    """How often each sequence of images of LINE is drawn with the seeds 0 … count − 1."""
    found: dict = {}
    for seed in range(count):
        key = tuple(int(pixel) for pixel in function(seed)[:, 0])
        found[key] = found.get(key, 0) + 1
    return found


def check_counts(counts: dict, shares: dict) -> None:
    """Pearson's test of the counts of draws against the shares they should have."""
    assert counts.keys() <= shares.keys()
    total = sum(counts.values())
    expected = {key: share * total for key, share in shares.items()}
    statistic = sum((counts.get(key, 0) - e) ** 2 / e for key, e in expected.items())
    assert statistic < chi2.ppf(0.999, len(shares) - 1)

"""The axes along which vectors vary most, for drawings of them on a plane."""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import svds

from job.blas import one_thread

SHORT = 1e-6  # of the largest spread: what is less is rounding
MANY = 1_000  # vectors of as many numbers: their products take longer than looking for two axes


def main_axes(rows: np.ndarray) -> np.ndarray:
    """Finds up to two unit vectors [., d] along the largest variance of centred rows [m, d]."""
    rows = np.asarray(rows, np.float64)
    with one_thread():
        squared, axes = _two_largest(rows)
    lengths = np.sqrt(np.maximum(squared, 0.0))
    return axes[lengths > SHORT * max(lengths.max(initial=0.0), 1e-30)]


def _two_largest(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds up to two sums of squares [.], largest first, and unit vectors [., d] along them."""
    least = min(rows.shape)
    if least > MANY:
        _, lengths, axes = svds(rows, 2, v0=np.ones(least), solver="arpack")
        return np.square(lengths[::-1]), axes[::-1]
    # Products of vectors, or of numbers, whichever are fewer: a decomposition of all that has d
    # numbers for each of m vectors is a hundred times the work.
    few = rows @ rows.T if len(rows) == least else rows.T @ rows
    squared, vectors = eigh(few, subset_by_index=(max(0, least - 2), least - 1))
    axes = vectors.T[::-1]
    if len(rows) == least:
        axes = axes @ rows
        axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-300)
    return squared[::-1], axes

"""What is published of a float32 set, against brute force in extended precision."""

import itertools

import numpy as np
from published import Published

TIE = 1e-15  # relative: longdouble sums of squares know no more


def check(images: np.ndarray, result: Published) -> None:
    """Recomputes assignments, distances, inertia and sizes from the published centroids."""
    clusters = result.clusters
    squared = squared_distances(images, result.centroids)
    own = squared[np.arange(len(images)), clusters]
    assert (own <= squared.min(axis=1) * (1 + TIE)).all()
    check_distances(result.distances, own)
    np.testing.assert_allclose(result.metrics["inertia"], float(own.sum()), rtol=1e-9)
    assert (
        result.metrics["cluster_sizes"] == np.bincount(clusters, minlength=len(squared.T)).tolist()
    )
    for _, lines in itertools.groupby(result.history, key=lambda line: line["restart"]):
        lines = list(lines)
        for before, after in itertools.pairwise(lines):
            assert after["inertia"] <= before["inertia"] * (1 + 1e-9) or before["empty"]


def squared_distances(images: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Of all images [n, d] to all centroids [k, d]; longdouble [n, k]."""
    wide = images.astype(np.longdouble)
    columns = [np.square(wide - row).sum(axis=1) for row in centroids.astype(np.longdouble)]
    return np.stack(columns, axis=1)


def check_distances(found: np.ndarray, squared: np.ndarray) -> None:
    """Distances float32 are right to 1e-6, or to their own last bit."""
    expected = np.sqrt(squared)
    allowed = np.maximum(1e-6 * expected, np.spacing(expected.astype(np.float32)))
    assert (np.abs(found - expected) <= allowed).all()


def sets() -> dict[str, np.ndarray]:
    """Float32 sets that are far from 0, large, small, or have an outlier, by name."""
    rng = np.random.default_rng(0)
    base = np.concatenate([rng.normal(middle, 1, (150, 12)) for middle in (0, 3, 6, 9)])
    made = {f"{offset:g} away": base + offset for offset in (0, 1e3, 1e6)}
    made["1.7e9 away"] = 20 * base + 1.7e9  # where float32 has steps of 128
    made |= {f"times {scale:g}": base * scale for scale in (1e-30, 1e-15, 1e15, 1e30)}
    made["an outlier"] = np.concatenate([base, np.full((1, 12), 1e10)])
    made["an outlier far away"] = np.concatenate([base + 1e6, np.full((1, 12), 1e10)])
    made["duplicates"] = np.repeat(base[:120], 5, axis=0)
    made["small integers"] = rng.integers(0, 3, (400, 4))
    made["unlike columns"] = base[:, :3] * [1e-8, 1, 1e8]
    made["64 dimensions"] = unit(rng.normal(size=(600, 64)))
    bent = rng.normal(size=(300, 1024)) + 4 * np.eye(300, 1024)[np.arange(300) % 5]
    made["1,024 dimensions"] = unit(bent)
    return {name: images.astype(np.float32) for name, images in made.items()}


def unit(images: np.ndarray) -> np.ndarray:
    return images / np.linalg.norm(images, axis=1, keepdims=True)

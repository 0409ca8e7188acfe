"""Result folders as `fit` leaves them, made with scikit-learn: what the report's tests read."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics.cluster import contingency_matrix

from job.result import metrics

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist.npz"
CONFIG = {
    "shards": "out/shards",
    "output": "out",
    "k": 10,
    "init": "k-means++",
    "seed": 0,
    "restarts": 1,
    "max_iterations": 300,
    "tol": 0.0,
    "algorithm": "lloyd",
    "replicas": None,
}


def write_result(
    folder,
    pixels: np.ndarray,
    image_shape: tuple[int, ...],
    clusters: np.ndarray,
    labels: np.ndarray | None = None,
    ids: list[str] | None = None,
    history: list[dict] | None = None,
    **changes,
) -> dict:
    """Writes the result of images [n, d] in clusters [n]; `changes` go into metrics.json.

    Returns:
      What metrics.json says.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = pixels / 255 if pixels.dtype == np.uint8 else pixels
    num_clusters = int(clusters.max()) + 1
    centroids = np.array([images[clusters == c].mean(axis=0) for c in range(num_clusters)])
    distances = np.linalg.norm(images - centroids[clusters], axis=1)
    np.save(folder / "centroids.npy", centroids.astype(np.float32))
    _write_examples(folder, pixels, clusters, labels, ids, distances)
    inertia = float(np.square(distances).sum())
    history = history or [
        {"iteration": i + 1, "inertia": inertia * (1 + 0.5**i), "changed": len(images) >> 2 * i}
        for i in range(8)
    ]
    lines = [json.dumps({"shift": 0.1, "empty": 0, "seconds": 0.02, **row}) for row in history]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = None if labels is None else contingency_matrix(clusters, labels)
    said = {
        "num_images": len(images),
        "num_features": images.shape[1],
        "num_clusters": num_clusters,
        "image_shape": list(image_shape),
        "dtype": str(pixels.dtype),
        "label_names": None,
        "algorithm": "lloyd",
        "init": "k-means++",
        "seed": 0,
        "restarts": 1,
        "iterations": len(history),
        "converged": True,
        "inertia": inertia,
        "num_labelled": 0 if table is None else int(table.sum()),
        "cluster_sizes": np.bincount(clusters).tolist(),
        **metrics.label_metrics(table),
        "contingency": None if table is None else table.tolist(),
        "davies_bouldin": 1.5,
        "simplified_silhouette": 0.25,
        "seconds": {"load": 0.5, "init": 0.25, "fit": 2.0, "write": 1.0},
        "replicas": 1,
        "workers": 1,
        "versions": {"kmeans-job": "0.1.0", "numpy": np.__version__},
        "fingerprint": "0123456789abcdef",
        "config": CONFIG | {"k": num_clusters},
        **changes,
    }
    (folder / "metrics.json").write_text(json.dumps(said), encoding="utf-8")
    return said


def _write_examples(folder, pixels, clusters, labels, ids, distances) -> None:
    """The nearest, farthest and random members of every cluster, in no particular order."""
    random = np.random.default_rng(0)
    rows, kinds = [], []
    for cluster in range(clusters.max() + 1):
        own = np.flatnonzero(clusters == cluster)
        order = own[np.argsort(distances[own])]
        for kind, members in (
            ("nearest", order[:5]),
            ("farthest", order[-5:]),
            ("random", random.permutation(own)[:25]),
        ):
            rows.extend(random.permutation(members))
            kinds.extend([kind] * len(members))
    names = np.array(ids if ids is not None else [f"train/{i:05d}" for i in range(len(pixels))])
    np.savez(
        folder / "examples.npz",
        pixels=pixels[rows],
        ids=names[rows],
        labels=np.full(len(rows), -1) if labels is None else labels[rows].astype(np.int64),
        clusters=clusters[rows].astype(np.int32),
        distances=distances[rows].astype(np.float32),
        kinds=np.array(kinds),
    )


def digits(folder, num_clusters: int = 10, labelled: bool = True, **changes) -> dict:
    """scikit-learn's digits, clustered."""
    data = load_digits()
    pixels = np.rint(data.data * (255 / 16)).astype(np.uint8)
    clusters = KMeans(num_clusters, n_init=1, random_state=0).fit_predict(pixels / 255)
    labels = data.target if labelled else None
    return write_result(folder, pixels, (8, 8), clusters, labels, **changes)


def mnist(folder, num_clusters: int) -> dict:
    """MNIST's training images in a few iterations; skips the test where the set is missing."""
    if not MNIST.exists():
        pytest.skip(f"MNIST is not at {MNIST}")
    with np.load(MNIST) as data:
        pixels, labels = data["x_train"].reshape(60_000, 784), data["y_train"]
    model = KMeans(num_clusters, init="random", n_init=1, random_state=0, max_iter=12)
    clusters = model.fit_predict(pixels / np.float32(255))
    return write_result(folder, pixels, (28, 28), clusters, labels.astype(np.int64))


def colour(folder, side: int = 12) -> dict:
    """Three clusters of smooth colour images of side × side pixels, for three labels."""
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(3), 40)
    ramp = np.linspace(0, 1, side)
    light = 0.5 + 0.5 * ramp[:, None, None] * ramp[None, :, None]
    tint = 60 + 150 * np.eye(3)[clusters] + random.uniform(0, 40, (120, 3))
    pixels = np.rint(light * tint[:, None, None, :]).astype(np.uint8).reshape(120, -1)
    return write_result(folder, pixels, (side, side, 3), clusters, clusters)


def embeddings(folder, **changes) -> dict:
    """Four clusters of float32 vectors, unlabelled."""
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(4), 50)
    vectors = random.normal(size=(200, 100)) + 3 * np.eye(100)[clusters * 25]
    return write_result(folder, vectors.astype(np.float32), (100,), clusters, **changes)

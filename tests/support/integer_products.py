"""Products of bytes, on any machine: emulated here, or the real ones in a process of their own."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import shard_set
import tensorflow as tf

from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.images.resident import ResidentImages
from job.kmeans import loop, pieces
from job.kmeans.precision import FLOAT32, Precision
from pipeline.shards.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[2]
INTEGERS = FLOAT32._replace(largest_piece=127)
# Without VNNI, sums of two products of bytes and larger integers saturate.
SMALL_INTEGERS = FLOAT32._replace(largest_piece=63)


def emulated(images, piece, bias, fraction):
    """What `pieces.multiply` computes, by a product of float64."""
    product = tf.linalg.matmul(tf.cast(images, tf.float64), tf.cast(piece, tf.float64))
    product = tf.cast(product, tf.float32) * tf.cast(fraction, tf.float32)
    return tf.cast(product + bias, tf.float32)


def worst_values(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Black, white and checked images, some with a little noise, and copies of them."""
    checked = np.where(np.arange(d) % 2, 255, 0)
    kinds = np.stack([np.zeros(d), np.full(d, 255), checked, 255 - checked, np.arange(d) % 256])
    images = kinds[rng.integers(0, len(kinds), n)]
    images[n // 4 :] += rng.integers(-9, 10, (n - n // 4, d))
    images[n // 2 :] += rng.integers(-60, 61, (n - n // 2, d))
    return np.clip(images, 0, 255).astype(np.uint8)


def few_levels(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Images of three levels, among which many are equally near to two others."""
    return (rng.integers(0, 3, (n, d)) * 127).astype(np.uint8)


def any_values(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.integers(0, 256, (n, d), dtype=np.uint8)


# images, n, d, k, initial centroids
QUICK = [
    (worst_values, 700, 13, 13, "k-means++"),
    (few_levels, 500, 3, 2, "random"),
    (any_values, 400, 27, 1, "random"),
]
ALL = [
    *QUICK,
    (worst_values, 900, 785, 13, "random"),
    (worst_values, 600, 20, 200, "k-means||"),
    (few_levels, 900, 7, 13, "k-means||"),
    (any_values, 900, 64, 200, "k-means++"),
    (any_values, 3000, 99, 40, "random"),
]


class _Records:
    """A callback that keeps what every iteration found."""

    def __init__(self):
        self.kept = []

    def on_seeding(self, restart, num_centroids): ...

    def on_iteration(self, record):
        self.kept.append(record._replace(seconds=0.0))

    def on_state(self, state): ...


def fit_bits(case: tuple, algorithm: str, precision: Precision) -> str:
    """A digest of centroids and history of a fit of one of the cases, on one device."""
    make, n, d, k, init = case
    with tempfile.TemporaryDirectory() as folder:
        shard_set.write(Path(folder), make(np.random.default_rng(n), n, d))
        replicas = Replicas(tf.distribute.get_strategy(), precision=precision)
        images = ResidentImages(folder, load_manifest(folder), replicas)
        config = FitConfig(folder, "", k, init=init, algorithm=algorithm, max_iterations=12)
        records = _Records()
        fitted, _ = loop.run_restarts(images, config, records)
    return hashlib.sha256(fitted.centroids.tobytes() + repr(records.kept).encode()).hexdigest()


def real_fit_bits(algorithms: list[str], cases: list[tuple]) -> list[str] | None:
    """`fit_bits` with integer products of this CPU; None: TensorFlow has none for it."""
    numbers = [ALL.index(case) for case in cases]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    arguments = [json.dumps([algorithms, numbers])]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    algorithms, numbers = json.loads(sys.argv[1])
    exact = [p for p in (INTEGERS, SMALL_INTEGERS) if pieces.is_exact(p.largest_piece)]
    bits = None
    if exact:
        bits = [fit_bits(ALL[n], name, exact[0]) for n in numbers for name in algorithms]
    print(json.dumps(bits))


if __name__ == "__main__":
    main()

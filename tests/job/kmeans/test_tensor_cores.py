"""Fits have the same bits where matrix products shorten their factors as tensor cores do.

No GPU is needed: every float32 product of matrices is made of factors without their last 13 bits.
"""

import numpy as np
import pytest
import tensorflow as tf

from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.images.resident import ResidentImages
from job.kmeans import ALGORITHMS, hamerly, loop
from job.kmeans.loop import IterationRecord
from job.kmeans.precision import FLOAT32, TF32, Precision
from pipeline.shards.manifest import load_manifest

NUM_CLUSTERS = 60


class Records:
    """A callback that keeps what every iteration found."""

    def __init__(self):
        self.kept: list[IterationRecord] = []

    def on_seeding(self, restart, num_centroids): ...

    def on_iteration(self, record):
        self.kept.append(record._replace(seconds=0.0))

    def on_state(self, state): ...


@pytest.fixture(params=["uint8", "float32"])
def close_set(request, make_shards, tmp_path) -> tuple[str, str]:
    """Shards of images in clusters so close that TF32 confuses many; a file of centroids."""
    rng = np.random.default_rng(0)
    middles = rng.integers(90, 120, (40, 96))
    pixels = middles[rng.integers(0, 40, 2500)] + rng.normal(0, 6, (2500, 96))
    pixels = pixels.astype(request.param)
    pixels[:50] = pixels[50:100]
    scale = 255 if request.param == "uint8" else 1
    np.save(path := str(tmp_path / "initial.npy"), pixels[100 : 100 + NUM_CLUSTERS] / scale)
    return make_shards(pixels), path


@pytest.fixture
def cut_factors(monkeypatch):
    """Called, it cuts off the factors of all float32 products of matrices from then on."""
    exact = tf.linalg.matmul

    def cut(factor: tf.Tensor) -> tf.Tensor:
        bits = tf.bitwise.bitwise_and(tf.bitcast(factor, tf.int32), -1 << 13)
        return tf.bitcast(bits, tf.float32)

    def product(a, b, **how):
        a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
        return exact(cut(a), cut(b), **how) if a.dtype == tf.float32 else exact(a, b, **how)

    return lambda: monkeypatch.setattr(tf.linalg, "matmul", product)


def fit(close_set: tuple[str, str], algorithm: str, precision: Precision) -> tuple:
    """Centroids and records of a fit on one device with products of `precision`."""
    folder, initial = close_set
    replicas = Replicas(tf.distribute.get_strategy(), precision=precision)
    images = ResidentImages(folder, load_manifest(folder), replicas)
    config = FitConfig(
        folder, "", NUM_CLUSTERS, init=initial, algorithm=algorithm, max_iterations=20
    )
    records = Records()
    fitted, _ = loop.run_restarts(images, config, records)
    return fitted.centroids.tobytes(), records.kept


@pytest.mark.parametrize(
    ("algorithm", "many"),
    [*((name, 1000) for name in sorted(ALGORITHMS)), ("hamerly", 10)],
)
def test_shortened_factors_change_no_bit(close_set, cut_factors, monkeypatch, algorithm, many):
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", many)
    expected = fit(close_set, "lloyd", FLOAT32)
    cut_factors()
    assert fit(close_set, algorithm, TF32) == expected
    assert fit(close_set, algorithm, FLOAT32) != expected  # it is the margin that decides

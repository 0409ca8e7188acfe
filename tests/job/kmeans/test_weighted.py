"""Whole weights in every algorithm: the bits of repeated rows, without another reading of them."""

from unittest import mock

import numpy as np
import pytest

from job.config import FitConfig
from job.distribute.replicas import local_replicas
from job.images import streamed
from job.images.resident import ResidentImages
from job.images.streamed import StreamedImages
from job.kmeans import hamerly, loop
from job.kmeans.precision import FLOAT32
from pipeline.shards.manifest import load_manifest

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (300, 24), dtype=np.uint8)
WEIGHTS = RNG.integers(0, 6, 300)
K = 30
# Name → algorithm, dtype, and from how many centroids on they are many.
ALGORITHMS = {
    "lloyd": ("lloyd", "uint8", 200),
    "few": ("hamerly", "uint8", 200),
    "many": ("hamerly", "uint8", 2),
    "one group": ("hamerly", "float32", 200),
    "groups": ("hamerly", "float32", 2),
}


@pytest.fixture(params=ALGORITHMS)
def algorithm(request, monkeypatch) -> tuple[str, str]:
    name, dtype, many = ALGORITHMS[request.param]
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", many)
    monkeypatch.setattr(hamerly, "GROUP", 10)
    monkeypatch.setattr(streamed, "CHUNK_BYTES", 1)  # 64 images
    return name, dtype


def fitted(kind, folder: str, algorithm: str, replicas: int = 1) -> tuple[bytes, list[tuple]]:
    """Bits of the centroids, and of all iterations, of images without products of integers."""
    images = kind(folder, load_manifest(folder), local_replicas(replicas))
    images.precision = FLOAT32
    callback = mock.Mock()
    callback.on_iteration.return_value = None
    config = FitConfig(folder, "", K, init="random", algorithm=algorithm)
    found, _ = loop.run_restarts(images, config, callback)
    records = [call.args[0]._replace(seconds=0) for call in callback.on_iteration.call_args_list]
    return found.centroids.tobytes(), records


@pytest.mark.parametrize(("kind", "replicas"), [(ResidentImages, 2), (StreamedImages, 1)])
def test_copies_are_repeated_rows(cpus, make_shards, algorithm, kind, replicas):
    name, dtype = algorithm
    pixels = PIXELS.astype(dtype)
    folder = make_shards(pixels, weights=WEIGHTS.astype(float), num_shards=2)
    wanted = fitted(ResidentImages, make_shards(np.repeat(pixels, WEIGHTS, axis=0)), name)
    assert fitted(kind, folder, name, replicas) == wanted
    assert len(wanted[1]) > 3


@pytest.mark.parametrize("algorithm", ["lloyd", "few"], indirect=True)
def test_weights_cost_no_reading(cpus, make_shards, algorithm, monkeypatch):
    name, dtype = algorithm
    chunks = mock.Mock(side_effect=streamed.Reader.next, autospec=True)
    monkeypatch.setattr(streamed.Reader, "next", lambda reader: chunks(reader))
    readings = []
    for weights in (np.ones(300), None):
        chunks.reset_mock()
        folder = make_shards(PIXELS.astype(dtype), weights=weights)
        _, records = fitted(StreamedImages, folder, name)
        readings.append((chunks.call_count, len(records)))
    assert readings[0] == readings[1]

"""Pixels read anew in each pass: the same passes, the same bits."""

import contextlib

import numpy as np
import pytest
import shard_set
import tensorflow as tf

from job.config import FitConfig
from job.distribute.replicas import Replicas, local_replicas
from job.images import memory
from job.images import streamed as stream
from job.images.places import Place
from job.images.resident import ResidentImages
from job.images.streamed import StreamedImages
from job.kmeans import ALGORITHMS, loop
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.manifest import load_manifest


class Silent:
    def on_seeding(self, restart, num_centroids): ...
    def on_iteration(self, record): ...
    def on_state(self, state): ...


@pytest.fixture(params=["uint8", "float32"])
def shards(request, tmp_path):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (431, 30)).astype(request.param)
    pixels[7] = 0
    folder = tmp_path / "shards"
    shard_set.write_plain(folder, pixels)
    return str(folder), pixels


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 64 images: some with many, a last one with few."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1)


def both(folder, num_replicas=1):
    manifest, replicas = load_manifest(folder), local_replicas(num_replicas)
    return ResidentImages(folder, manifest, replicas), StreamedImages(folder, manifest, replicas)


def kept(images, pixels):
    """The pixels as the images have them: those of float32 in their frame."""
    return pixels if pixels.dtype == np.uint8 else images.frame.inside(pixels)


def test_both_know_the_same(shards, small_chunks):
    folder, pixels = shards
    resident, streamed = both(folder)
    assert streamed.units == resident.units
    assert streamed.squared_norm_total == resident.squared_norm_total
    assert np.array_equal(streamed.digests[0], resident.digests[0])
    places = [Place(0, 0, row) for row in (0, 7, 143, 144, 430)]
    assert streamed.frame.exponent == resident.frame.exponent
    assert np.array_equal(streamed.frame.origin, resident.frame.origin)
    rows = [place.row for place in places]
    assert np.array_equal(streamed.take(places), kept(streamed, pixels)[rows])
    assert streamed.take(places).dtype == resident.take(places).dtype == pixels.dtype


def count_up(images, squared_norm, state, shared):
    import tensorflow as tf

    sums = tf.reduce_sum(tf.cast(images, tf.float64), axis=1)
    return state + sums + shared, [tf.reduce_sum(sums), tf.reduce_sum(squared_norm)]


def as_float32(images, squared_norm, state, shared):
    import tensorflow as tf

    return tf.cast(state, tf.float32) + shared, []


def test_passes_are_made_once_until_they_are_forgotten(shards):
    _, images = both(shards[0])
    run = images.compile(count_up)
    assert images.compile(count_up) is run
    images.forget_passes()
    assert images.compile(count_up) is not run


def test_an_image_lies_in_its_worker(shards):
    for images in both(shards[0]):
        assert images.holds(Place(0, 0, 5))
        assert not images.holds(Place(1, 0, 5))


def test_a_pass_sees_every_image_once_and_in_order(shards, small_chunks):
    folder, pixels = shards
    _, images = both(folder)
    run, pixels = images.compile(count_up), kept(images, pixels)
    state = images.state(np.zeros)
    for times in (1, 2):
        state, (total, norms) = run(state, np.float64(3))
        expected = times * (pixels.sum(axis=1, dtype=np.float64) + 3)
        assert np.array_equal(np.concatenate(images.local(state)), expected)
        assert total == pixels.sum(dtype=np.float64)
        assert norms == images.squared_norm_total


def test_a_state_of_another_form_leaves_the_old_one(shards, small_chunks):
    folder, _ = shards
    _, images = both(folder)
    old = images.state(lambda count: np.arange(count, dtype=np.int32))
    new, totals = images.compile(as_float32)(old, np.float32(0.5))
    assert totals == []
    assert np.array_equal(images.local(old)[0], np.arange(431))
    assert np.array_equal(images.local(new)[0], np.arange(431) + np.float32(0.5))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_fit(shards, small_chunks, algorithm):
    folder, _ = shards
    config = FitConfig(folder, "", k=12, algorithm=algorithm)
    (a, _), (b, _) = (loop.run_restarts(images, config, Silent()) for images in both(folder))
    assert np.array_equal(a.centroids, b.centroids)
    assert a.iterations == b.iterations


def test_a_shard_that_was_cut_is_named(shards, small_chunks):
    folder, _ = shards
    _, images = both(folder)
    run = images.compile(count_up)
    run(images.state(np.zeros), np.float64(0))
    path = storage.join(folder, load_manifest(folder).shards[1].file)
    with open(path, "r+b") as file:
        file.truncate(100)
    with contextlib.suppress(UserError):
        run(images.state(np.zeros), np.float64(0))  # a part may have been read ahead
    with pytest.raises(UserError, match="shorter than it was") as caught:
        run(images.state(np.zeros), np.float64(0))
    assert path in str(caught.value)


def test_read_into_fills_or_refuses(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    target = bytearray(10)
    storage.read_into(str(path), 90, memoryview(target))
    assert target == bytes(range(90, 100))
    with pytest.raises(UserError, match="shorter"):
        storage.read_into(str(path), 91, memoryview(target))
    with pytest.raises(UserError, match="cannot read"):
        storage.read_into(str(tmp_path / "none"), 0, memoryview(target))


class FewerElsewhere(Replicas):
    """The replicas of this worker beside another one that says less than this one."""

    def all_gather(self, array):
        return np.stack([array, array // 3])


@pytest.mark.parametrize("kind", [ResidentImages, StreamedImages])
def test_all_workers_take_what_the_poorest_can(make_shards, monkeypatch, kind):
    monkeypatch.setattr(memory, "available_bytes", lambda: 32 << 30)
    folder = str(make_shards(np.zeros((50, 8), np.uint8)))
    manifest = load_manifest(folder)
    rich = kind(folder, manifest, local_replicas()).spare_row_bytes
    images = kind(folder, manifest, FewerElsewhere(tf.distribute.get_strategy()))
    assert images.spare_row_bytes == rich // 3

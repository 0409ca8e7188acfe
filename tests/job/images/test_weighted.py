"""Rows with weights: which images they are, and what each of these counts."""

import dataclasses

import numpy as np
import pytest

from job import hashing
from job.distribute.replicas import local_replicas
from job.images import weighted
from job.images.resident import ResidentImages
from job.images.streamed import StreamedImages
from job.kmeans.init import random_images
from pipeline.shards.manifest import Manifest, SeenWeights, load_manifest

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 5), dtype=np.uint8)
WHOLE = RNG.integers(0, 4, 60).astype(np.float64)
WHOLE[:31] = 0  # all of the first of two replicas
KINDS = [ResidentImages, StreamedImages]


def images_of(make_shards, kind, pixels=PIXELS, weights=WHOLE, replicas=1, **how):
    folder = make_shards(pixels, weights=weights, **how)
    return kind(folder, load_manifest(folder), local_replicas(replicas))


def digests(images) -> np.ndarray:
    return np.concatenate(images.digests)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("replicas", "num_shards", "block_rows"), [(1, 1, 100), (2, 7, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_whole_weights_are_copies(cpus, make_shards, kind, replicas, num_shards, block_rows, dtype):
    pixels = PIXELS.astype(dtype)
    how = {"replicas": replicas, "num_shards": num_shards, "block_rows": block_rows}
    images = images_of(make_shards, kind, pixels, **how)
    repeated = make_shards(np.repeat(pixels, WHOLE.astype(int), axis=0))
    wanted = ResidentImages(repeated, load_manifest(repeated), local_replicas(1))
    assert images.num_images == WHOLE.sum()
    assert images.weights is None
    np.testing.assert_array_equal(digests(images), digests(wanted))
    for name in ("squared_norm_total", "units"):
        assert getattr(images, name) == getattr(wanted, name)
    places = [place for _, place in images.smallest([images.digests], 20)]
    others = [place for _, place in wanted.smallest([wanted.digests], 20)]
    np.testing.assert_array_equal(images.take(places), wanted.take(others))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_weights_are_rows(cpus, make_shards, kind):
    weights = WHOLE / 3
    images = images_of(make_shards, kind, weights=weights, num_shards=4)
    unit = images.weight_unit
    assert unit == 2.0**-19  # the largest is 1, and 2 the power of two above it
    (own,) = images.weights
    np.testing.assert_array_equal(own, np.rint(weights[weights > 0] / unit))
    assert images.num_images == own.sum()
    rows = np.flatnonzero(weights)
    ids = [f"train/{row:05d}" for row in rows]
    np.testing.assert_array_equal(digests(images), hashing.digests(ids))
    assert images.total([np.ones(len(rows))]) == own.sum()
    assert images.squared_norm_total == np.square(PIXELS[rows].astype(float)).sum(axis=1) @ own


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_weight_does_not_decide_the_frame(cpus, make_shards, kind):
    pixels = PIXELS.astype(np.float32) + 10_000
    pixels[0] = 1e25, 1e-25, 0, -1, 1e30  # too far apart for any frame
    images = images_of(make_shards, kind, pixels)
    without = images_of(make_shards, kind, pixels[1:], WHOLE[1:])
    assert images.frame.exponent == without.frame.exponent
    np.testing.assert_array_equal(images.frame.origin, without.frame.origin)
    state, _ = images.compile(norms)(images.state(np.ones), None)
    assert np.isfinite(images.local(state)[0]).all()


def norms(images, squared_norm, state, shared):
    return squared_norm * state, []


def test_files_are_numbered_one_by_one(cpus, make_shards):
    ids = [f"{name}/{row:05d}" for name in ("a.csv", "b.csv", "c.csv") for row in range(20)]
    repeats = WHOLE.astype(int)
    numbers = [range(part.sum()) for part in np.split(repeats, 3)]
    wanted = [
        f"{n}/{i:05d}"
        for n, own in zip(("a.csv", "b.csv", "c.csv"), numbers, strict=True)
        for i in own
    ]
    for num_shards in (1, 2, 3, 9, 30):
        images = images_of(make_shards, StreamedImages, ids=ids, num_shards=num_shards)
        np.testing.assert_array_equal(digests(images), hashing.digests(wanted))


def test_images_that_bring_ids_keep_them(cpus, make_shards):
    ids = [f"photos/{row}.jpg" for row in range(60)]
    found = []
    for num_shards, order in [(1, None), (4, RNG.permutation(60))]:
        images = images_of(make_shards, ResidentImages, ids=ids, num_shards=num_shards, order=order)
        found.append(np.sort(digests(images)))
    np.testing.assert_array_equal(*found)
    assert len(np.unique(found[0])) == WHOLE.sum()
    present = hashing.digests(name for name, weight in zip(ids, WHOLE, strict=True) if weight)
    assert np.isin(present, found[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_copies_are_weights(cpus, make_shards, kind, monkeypatch):
    monkeypatch.setattr(weighted, "MOST_COPIES", 10)
    images = images_of(make_shards, kind)
    assert images.weight_unit == 1
    np.testing.assert_array_equal(images.weights[0], WHOLE[WHOLE > 0])
    assert len(random_images(images, 5, 0, "draw")) == 5


def test_the_unit_follows_from_the_manifest():
    manifest = Manifest((2,), 2, "uint8", 3, None, (), 0, {}, "")
    assert isinstance(weighted.rows_of(manifest, [3]), weighted.Rows)
    entry = weighted.WeightsEntry("w", *SeenWeights.of(np.array([0.5, 6])))
    assert entry == weighted.WeightsEntry("w", 6.0, are_whole=False)
    rows = weighted.rows_of(dataclasses.replace(manifest, weights=entry), [3])
    assert rows.unit == 8 / 2**20

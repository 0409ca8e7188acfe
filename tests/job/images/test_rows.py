"""Which replica has which rows of a set, and what is known of them."""

import itertools

import numpy as np
import pytest
import shard_set
from lone_worker import Worker

from job.distribute.preemption import InterruptedFit
from job.images import rows
from job.kmeans.precision import FLOAT32
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """A folder of shards of 101, 100, 100 images in blocks of 40, its manifest, its images."""
    folder = tmp_path_factory.mktemp("set")
    pixels = np.random.default_rng(0).integers(0, 256, (301, 5), np.uint8)
    return str(folder), shard_set.write_plain(folder, pixels), pixels


@pytest.mark.parametrize(("num_workers", "count"), [(1, 1), (1, 4), (2, 3), (3, 2), (5, 2)])
def test_every_image_is_in_one_place(small_set, num_workers, count):
    folder, manifest, pixels = small_set
    found = []
    for number in range(num_workers):
        worker = Worker(number, num_workers, count)
        shares = rows.share_rows(manifest, worker)
        assert len(shares) == count
        sizes = [stop - start for start, stop in shares]
        assert max(sizes) - min(sizes) <= 1
        filled = [np.zeros((size, 5), np.uint8) for size in sizes]
        ids = [[""] * size for size in sizes]
        for loaded in rows.blocks_by_replica(folder, manifest, worker):
            filled[loaded.replica][loaded.rows] = loaded.pixels
            ids[loaded.replica][loaded.rows] = loaded.ids
            assert loaded.shard in rows.own_shards(manifest, worker)
        found += zip(itertools.chain(*ids), np.concatenate(filled).tolist(), strict=True)
    assert sorted(found) == [(f"i{n:05d}", row) for n, row in enumerate(pixels.tolist())]


def test_shards_go_round_the_workers(small_set):
    manifest = small_set[1]
    own = [rows.own_shards(manifest, Worker(number, 2)) for number in (0, 1)]
    assert own == [manifest.shards[::2], manifest.shards[1::2]]


def test_more_replicas_than_images(tmp_path):
    manifest = shard_set.write_plain(tmp_path, np.zeros((2, 3), np.uint8), 1)
    worker = Worker(count=4)
    sizes = [stop - start for start, stop in rows.share_rows(manifest, worker)]
    assert sorted(sizes) == [0, 0, 1, 1]
    loaded = [part.replica for part in rows.blocks_by_replica(str(tmp_path), manifest, worker)]
    assert loaded == [replica for replica, size in enumerate(sizes) if size]


def test_a_worker_that_is_to_end_stops_loading(small_set):
    folder, manifest, _ = small_set
    worker = Worker()
    blocks = rows.blocks_by_replica(folder, manifest, worker)
    next(blocks)
    worker.ask_to_end()
    with pytest.raises(InterruptedFit, match="while loading"):
        list(blocks)


def test_norms():
    pixels = np.full((2, 784), 255, np.uint8)
    pixels[1, 1:] = 0
    assert rows.squared_pixel_norms(pixels).tolist() == [784 * 255**2, 255**2]
    floats = np.array([[1e18, 1], [3e-20, 4e-20]], np.float32)
    exact = np.square(floats.astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(rows.squared_pixel_norms(floats), exact, rtol=1e-15)
    norms = rows.empty_norms(7)
    assert (norms.dtype, norms.shape) == (np.float64, (7,))


def test_numbers_are_added_over_replicas_and_rounded_once():
    values = [np.array([1.0, 1e30]), np.array([]), np.array([-1e30, 25.0])]
    assert rows.total(Worker(), values) == 26
    assert rows.total(Worker(), [np.array([])]) == 0


@pytest.mark.parametrize("norm", [1.01 * rows.MAX_SQUARED_NORM, np.inf])
def test_an_image_whose_distances_overflow_float32_is_refused(norm):
    with pytest.raises(UserError, match=r"^a/set: an image of norm .*divide the images by"):
        rows.check_norms("a/set", [np.array([1.0]), np.array([norm])])
    rows.check_norms("a/set", [np.array([rows.MAX_SQUARED_NORM]), np.array([])])


@pytest.mark.parametrize(
    ("others", "common"),
    [
        ([[127, 9], [127, 8]], (127, 3)),
        ([[127, 2], [127, 9]], (127, 2)),
        ([[127, 9], [0, 0]], (0, 0)),
    ],
)
def test_all_workers_have_the_same_kind_of_scores(monkeypatch, others, common):
    """Or they would choose different algorithms, with different passes, and wait for each other."""
    worker = Worker()
    worker.precision = FLOAT32._replace(largest_piece=127, piece_speed=3)
    monkeypatch.setattr(worker, "all_gather", lambda own: np.array([own, *others]))
    largest, speed = common
    expected = FLOAT32._replace(largest_piece=largest, piece_speed=speed)
    assert rows.common_precision(worker) == expected

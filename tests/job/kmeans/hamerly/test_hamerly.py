"""Pruned assignments are Lloyd's, and their bounds hold."""

import numpy as np
import pytest
from kmeans_graphs import BYTES, FLOATS, PRUNED

from job.distribute.replicas import local_replicas
from job.images.resident import ResidentImages
from job.kmeans import hamerly
from job.kmeans.hamerly import Screened
from job.kmeans.hamerly.groups import GroupedCentroids
from job.kmeans.precision import FLOAT32, TF32
from pipeline.shards.manifest import load_manifest
from pipeline.shards.pixel_scale import on_grid, units_of


# With a deviation of 70 there is nothing to find: screens tell little, and are given up.
@pytest.mark.parametrize(
    ("dtype", "deviation"), [("uint8", 18), ("float32", 18), ("uint8", 70), ("float32", 70)]
)
def test_many_centroids_have_the_answer_of_lloyd(fit, make_shards, dtype, deviation):
    rng = np.random.default_rng(5)
    middles = rng.integers(40, 216, (150, 96))
    images = middles[rng.integers(0, 150, 3000)] + rng.normal(0, deviation, (3000, 96))
    images = np.clip(images, 0, 255).astype(dtype)
    images[:40] = images[40:80]
    initial = images[rng.choice(np.arange(40, 3000), 230, replace=False)]
    initial = initial / units_of(images.dtype, 96).scale
    shards = make_shards(images)
    plain = fit(shards, 230, init=initial, algorithm="lloyd")
    changed = [line["changed"] for line in plain.history]
    for algorithm in PRUNED:
        pruned = fit(shards, 230, init=initial, algorithm=algorithm)
        np.testing.assert_array_equal(pruned.clusters, plain.clusters)
        np.testing.assert_array_equal(pruned.centroids, plain.centroids)
        assert [line["changed"] for line in pruned.history] == changed


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("many", [False, True])
def test_bounds_hold_as_centroids_move(make_shards, monkeypatch, dtype, many):
    """On a line, where a bound loses no more than it has to; few steps are by far the largest."""
    monkeypatch.setattr(hamerly, "MANY_CENTROIDS", 10 - 9 * many)
    monkeypatch.setattr(hamerly, "GROUP", 3)
    rng, k = np.random.default_rng(0), 9
    middles = np.full((k, 8), 30.0)
    middles[:, 0] = rng.uniform(0, 255, k)
    pixels = np.full((3000, 8), 30)
    pixels[:, 0] = rng.integers(0, 256, 3000)
    pixels = pixels.astype(dtype)
    folder = make_shards(pixels)
    images = ResidentImages(folder, load_manifest(folder), local_replicas())
    algorithm = hamerly.hamerly(images, k)
    exact = images.frame.centroids_inside(pixels / images.units.scale)
    skipped = []
    for step in (10, 3, 1, 0.3, 0.3, 0.1, 0.1, 0.03, 0.03, 0.01, 0.01, 0):
        middles[:, 0] += step * rng.pareto(2, k) * rng.choice((-1, 1), k) / k
        inside = images.frame.centroids_inside(middles / images.units.scale)
        centroids = on_grid(inside, images.units)
        algorithm.assign(centroids)
        distances = np.linalg.norm(exact[:, None] - centroids, axis=2)
        clusters = algorithm.clusters.numpy()
        np.testing.assert_array_equal(clusters, distances.argmin(axis=1))
        own, second = np.sort(distances, axis=1)[:, :2].T
        bounds = screened(algorithm).bounds
        if isinstance(screened(algorithm), GroupedCentroids):
            places = screened(algorithm)._groups.members
            gaps = bounds.gaps.numpy()
            own_place = np.eye(k + 1, dtype=bool)[clusters][:, places]  # [n, G, s]
            far = np.pad(distances, [(0, 0), (0, 1)], constant_values=np.inf)[:, places]
            others = np.where(own_place, np.inf, far).min(axis=2)
            assert (gaps <= others - own[:, None]).all()
            gaps = gaps.min(axis=1)
        elif many:
            _, upper, lower = (part.numpy() for part in bounds)
            assert (upper >= own).all()
            assert (lower <= second).all()
            gaps = lower - upper
        else:
            gaps = bounds.gaps.numpy()
            assert (gaps <= second - own).all()
        skipped.append((gaps > 0).mean())
    assert skipped[-1] > 0.5, skipped


class Room:
    """Images that leave some memory, of which no pass is ever run."""

    num_images = 10**8
    units, precision = BYTES, FLOAT32

    def __init__(self, num_features: int, columns: int):
        """Takes the columns of the widest screen that fits."""
        self.num_features = num_features
        self.spare_row_bytes = 4 * (columns + 2)

    def compile(self, step, *options):
        return None

    def state(self, make):
        return make(10)


@pytest.mark.parametrize(
    ("k", "num_features", "room", "kind", "columns"),
    [
        (10, 784, 500, "FewCentroids", hamerly.FEW_COLUMNS),
        (23, 784, 500, "FewCentroids", hamerly.FEW_COLUMNS),
        (24, 784, 500, "FewCentroids", hamerly.SOME_COLUMNS),
        (199, 784, 500, "FewCentroids", hamerly.SOME_COLUMNS),
        (200, 784, 500, "ManyCentroids", hamerly.MANY_COLUMNS),
        (200, 100, 500, "ManyCentroids", 25),  # a quarter of the pixels
        (200, 784, 20, "ManyCentroids", 20),  # what the memory has room for
        (10, 784, 16, "FewCentroids", 16),
        (10, 20, 500, "FewCentroids", 5),  # of narrow images a narrow one is
    ],
)
def test_the_screen_suits_the_centroids_and_the_memory(k, num_features, room, kind, columns):
    algorithm = hamerly.hamerly(Room(num_features, room), k)
    assert type(screened(algorithm)).__name__ == kind
    assert screened(algorithm).screen.columns == columns


@pytest.mark.parametrize(("k", "columns"), [(1000, 78), (10_000, 38), (12_000, 19)])
def test_centroids_take_from_the_memory_of_a_screen(k, columns):
    room = Room(784, 132)
    room.num_images = 1_000_000
    assert screened(hamerly.hamerly(room, k)).screen.columns == columns


# A screen so narrow is not worth it.
@pytest.mark.parametrize(
    ("k", "num_features", "room"), [(200, 784, 15), (10, 784, 15), (10, 3, 500), (200, 3, 500)]
)
def test_without_a_screen_all_centroids_are_one_group(k, num_features, room):
    assert groups_in(Room(num_features, room), k) == 1


@pytest.mark.parametrize(("num_features", "kind"), [(784, Screened), (99, GroupedCentroids)])
def test_a_small_set_has_no_screen(monkeypatch, num_features, kind):
    monkeypatch.setattr(hamerly, "LEAST_PIXELS", 100 * Room.num_images)
    assert isinstance(hamerly.hamerly(Room(num_features, 500), 10), kind)


def test_bytes_in_tensor_cores_have_no_screen():
    room = Room(784, 500)
    assert isinstance(hamerly.hamerly(room, 10), Screened)
    room.precision = TF32
    assert groups_in(room, 10) == 1


def groups_in(room: Room, k: int) -> int:
    algorithm = hamerly.hamerly(room, k)
    assert isinstance(algorithm, GroupedCentroids)
    return algorithm.bounds.gaps.shape[1]


@pytest.mark.parametrize(
    ("k", "columns", "groups"),
    [(199, 500, 1), (200, 500, 8), (1000, 500, 40), (1000, 5, 7), (1000, -2, 1)],
)
def test_vectors_have_groups_as_the_memory_has_room_for(k, columns, groups):
    room = Room(512, columns)
    room.units = FLOATS
    assert groups_in(room, k) == groups


@pytest.mark.parametrize(
    ("k", "speed", "has_screen"),
    [(10, 2, False), (599, 2, False), (600, 2, True), (600, 6, False), (1000, 5, True)],
)
def test_products_of_bytes_need_no_screen_unless_many_are_slow(monkeypatch, k, speed, has_screen):
    monkeypatch.setattr(hamerly, "CHEAP_CENTROIDS", 600)
    monkeypatch.setattr(hamerly, "CHEAP_SPEED", 6)
    room = Room(784, 500)
    room.precision = FLOAT32._replace(largest_piece=127, piece_speed=speed)
    assert isinstance(hamerly.hamerly(room, k), Screened) == has_screen
    if not has_screen:
        assert groups_in(room, k) == 1
    room.units = FLOATS
    assert groups_in(room, 1000) == 40


@pytest.mark.parametrize(("speed", "groups"), [(0, 40), (3, 1)])
def test_a_screen_that_is_no_help_is_followed_by_bounds_alone(speed, groups):
    """Groups of them where scores are made group by group."""
    room = Room(784, 500)
    room.precision = FLOAT32._replace(largest_piece=127 if speed else 0, piece_speed=speed)
    algorithm = hamerly.hamerly(room, 1000)
    centroids = np.zeros((1000, 784))
    before = screened(algorithm)
    before.assign = lambda _: before.screen.note_screened(*[room.num_images] * 2)
    algorithm.assign(centroids)
    assert screened(algorithm) is before
    with pytest.raises(TypeError):  # no pass is ever run
        algorithm.assign(centroids)
    assert isinstance(screened(algorithm), GroupedCentroids)
    assert screened(algorithm).bounds.gaps.shape[1] == groups
    assert (screened(algorithm).bounds.gaps == 0).all()
    assert algorithm.clusters is before.clusters


def screened(algorithm):
    """The algorithm that serves now."""
    return getattr(algorithm, "_algorithm", algorithm)

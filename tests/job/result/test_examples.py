"""Which images of a cluster are shown, whatever the order in which blocks come."""

import numpy as np
import pytest

from job.result.examples import (
    EXAMPLES_SHOWN,
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    MAX_SAMPLE,
    MAX_SAMPLE_BYTES,
    SAMPLE,
    Choice,
    Examples,
    members_room,
    sample_share,
)
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block

K, COUNT = 3, 150


def assigned(part: int, labelled: bool = True) -> Assigned:
    rng = np.random.default_rng(part)
    pixels = rng.integers(0, 256, (COUNT, 4), np.uint8)
    labels = rng.integers(0, 2, COUNT) if labelled else None
    block = Block([f"{part}/{i}" for i in range(COUNT)], labels, pixels)
    return Assigned(
        block, rng.integers(0, K, COUNT).astype(np.int32), rng.permutation(COUNT) ** 2.0
    )


def check_same(one: Examples, other: Examples) -> None:
    a, b = one.arrays(), other.arrays()
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_examples_merge_in_any_order_and_grouping():
    a, b, c = (Examples.of(assigned(part), Choice(0, 0.5)) for part in range(3))
    check_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    check_same(a.merge(b), b.merge(a))
    check_same(a.merge(Examples({})), a)
    check_same(Examples({}).merge(a), a)


def test_examples_are_what_their_arrays_say():
    examples = Examples.of(assigned(0), Choice(0))
    check_same(Examples.from_arrays({**examples.arrays(), "counts": np.zeros(3)}), examples)


def test_the_nearest_and_the_farthest_of_each_cluster():
    block, clusters, squared = assigned(0)
    columns = Examples.of(assigned(0), Choice(0)).columns()
    assert columns["distances"].dtype == np.float32
    for cluster in range(K):
        distances = np.sort(np.sqrt(squared[clusters == cluster]))
        for kind, expected in (("nearest", distances[:5]), ("farthest", distances[:-6:-1])):
            own = (columns["clusters"] == cluster) & (columns["kinds"] == kind)
            assert columns["distances"][own].tolist() == expected.tolist()
            for name, pixels in zip(columns["ids"][own], columns["pixels"][own], strict=True):
                assert pixels.tolist() == block.pixels[block.ids.index(name)].tolist()


def test_random_ones_follow_the_seed_and_nothing_else():
    def shown(seed: int, count: int = COUNT) -> set:
        block, clusters, squared = assigned(0)
        order = np.random.default_rng(count).permutation(COUNT)
        block = Block([block.ids[i] for i in order], block.labels[order], block.pixels[order])
        columns = Examples.of(
            Assigned(block, clusters[order], squared[order]), Choice(seed)
        ).columns()
        return set(columns["ids"][columns["kinds"] == "random"])

    assert shown(0) == shown(0, 7) != shown(1)
    assert len(shown(0)) == K * EXAMPLES_SHOWN["random"]


def test_a_small_cluster_shows_all_it_has_and_unlabelled_images_no_label():
    block = Block(["a", "b"], None, np.zeros((2, 4), np.uint8))
    columns = Examples.of(Assigned(block, np.array([1, 1]), np.arange(2.0)), Choice(0)).columns()
    assert len(columns["ids"]) == 2 * len(EXAMPLES_SHOWN)
    assert set(columns["labels"]) == {-1}


def test_the_sample_is_of_the_whole_set_and_has_room():
    columns = Examples.of(assigned(0), Choice(0, 0.5)).columns()
    share = (columns["kinds"] == SAMPLE).sum() / COUNT
    assert 0.3 < share < 0.7
    assert sample_share(100, 784) == 1
    assert sample_share(10 * MAX_SAMPLE, 784) == 0.1
    assert sample_share(10_000, MAX_SAMPLE_BYTES // 1_000) == pytest.approx(0.1, rel=0.01)


def test_members_have_room_in_a_page_and_in_memory():
    assert members_room(100, 784) == EXAMPLES_SHOWN
    for k, image_bytes in ((1_000, 784), (100, 150_528), (30, 1 << 20)):
        room = members_room(k, image_bytes)
        assert 3 <= sum(room.values()) < sum(EXAMPLES_SHOWN.values())
        assert min(room.values()) >= 1
        assert k * sum(room.values()) <= MAX_MEMBERS
        assert k * sum(room.values()) * image_bytes <= MAX_MEMBER_BYTES
    assert set(members_room(10**6).values()) == {1}
    assert members_room(1_000, 150_528) == {"nearest": 1, "farthest": 0, "random": 0}


def test_what_has_no_room_is_not_kept_wherever_it_lies():
    few = {"nearest": 2, "farthest": 1, "random": 0}
    choice = Choice(0, 0.5, few)
    parts = [Examples.of(assigned(part), choice) for part in range(3)]
    saved = [Examples.from_arrays(part.arrays()) for part in parts]
    merged = Examples({}).merge(*saved)
    check_same(merged, parts[2].merge(parts[0]).merge(parts[1]))
    assert merged.room == few
    for kind, room in few.items():
        assert len(merged.kept[kind]["ids"]) == K * room

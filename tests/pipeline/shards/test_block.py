"""Blocks in shards, their fingerprints, and damage that only reading finds."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_set import block_of, change, write_set

from pipeline.errors import UserError
from pipeline.shards.block import (
    Block,
    Fingerprint,
    decode_block,
    encode_block,
    read_shard,
    regrouped,
)
from pipeline.shards.manifest import load_manifest, shard_file


def read_all(folder) -> list[Block]:
    manifest = load_manifest(str(folder))
    return [b for shard in manifest.shards for b in read_shard(str(folder), shard, manifest)]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_block_round_trip(tmp_path, labelled, dtype):
    manifest = dataclasses.replace(write_set(tmp_path, labelled=labelled), dtype=dtype)
    before = block_of(5, labelled=labelled, dtype=dtype)
    after = decode_block(encode_block(before), manifest)
    assert after.ids == before.ids
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert after.pixels.dtype == dtype
    if labelled:
        np.testing.assert_array_equal(after.labels, before.labels)
    else:
        assert after.labels is None


def test_weights_keep_all_their_digits(tmp_path):
    weights = np.array([0.1, 1 / 3, 0, 2.0**60, 1])
    whole = block_of(5)._replace(weights=weights)
    after = decode_block(encode_block(whole), write_set(tmp_path))
    assert after.weights.tolist() == weights.tolist()
    assert len(encode_block(whole)) < len(encode_block(block_of(5))) + 5 * 8 + 30
    parts = list(whole.split(2))
    assert [part.weights.tolist() for part in parts] == [[0.1, 1 / 3], [0, 2.0**60], [1]]
    assert next(regrouped(parts, 5)).weights.tolist() == weights.tolist()


def test_the_fingerprint_of_a_set_without_weights_stays_what_it_was():
    plain, weighted, other = Fingerprint(), Fingerprint(), Fingerprint()
    plain.add(block_of(3))
    weighted.add(block_of(3)._replace(weights=np.ones(3)))
    other.add(block_of(3)._replace(weights=np.array([1, 1, 2.0])))
    assert plain.hex() == "267cf412ac1d2dd3a5c838193dff240a"
    assert len({each.hex() for each in (plain, weighted, other)}) == 3


def test_blocks_of_a_set_come_back(tmp_path):
    write_set(tmp_path)
    assert [len(b.ids) for b in read_all(tmp_path)] == [3, 1, 4, 1]


@given(st.integers(1, 30), st.integers(1, 31), st.booleans())
def test_parts_of_a_block_are_the_block(num_images, size, labelled):
    whole = block_of(num_images, labelled=labelled)
    parts = list(whole.split(size))
    assert all(len(part.ids) == size for part in parts[:-1])
    assert len(parts[-1].ids) <= size
    assert [image_id for part in parts for image_id in part.ids] == whole.ids
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    if labelled:
        labels = np.concatenate([part.labels for part in parts])
        np.testing.assert_array_equal(labels, whole.labels)
    else:
        assert all(part.labels is None for part in parts)


def test_an_image_costs_its_pixels_and_a_few_bytes():
    pixels = np.zeros((1000, 784), np.uint8)
    ids = [f"train/{i:05d}" for i in range(1000)]
    data = encode_block(Block(ids, np.arange(1000) % 10, pixels))
    assert len(data) < 1000 * (784 + 20)


@given(st.integers(1, 30), st.data())
def test_fingerprint_ignores_order_and_grouping(size, data):
    whole = Fingerprint()
    whole.add(all_of := block_of(size))
    order = data.draw(st.permutations(range(size)))
    cut = data.draw(st.integers(0, size))
    first, second = Fingerprint(), Fingerprint()
    for part, rows in ((first, order[:cut]), (second, order[cut:])):
        ids = [all_of.ids[i] for i in rows]
        part.add(Block(ids, all_of.labels[list(rows)], all_of.pixels[list(rows)]))
    assert first.merge(second).hex() == second.merge(first).hex() == whole.hex()


@pytest.mark.parametrize("field", ["ids", "labels", "pixels"])
def test_fingerprint_sees_every_change(field):
    before, after = Fingerprint(), Fingerprint()
    before.add(original := block_of(3))
    changed = Block(list(original.ids), original.labels.copy(), original.pixels.copy())
    getattr(changed, field)[1] = "other" if field == "ids" else 77
    after.add(changed)
    assert before.hex() != after.hex()


@pytest.mark.parametrize("position", [0, 9, 30, -2])
def test_one_flipped_byte(tmp_path, position):
    write_set(tmp_path)

    def flip(data):
        data[position] ^= 255

    change(tmp_path / shard_file(1, 2), flip)
    with pytest.raises(UserError, match=r"images-00001-of-00002\.tfrecord: altered since it was"):
        read_all(tmp_path)


def test_shard_replaced_by_another_of_its_size(tmp_path):
    """Every record is sound; only the checksum of the whole file tells."""
    write_set(tmp_path, sizes=(3, 3))
    other = (tmp_path / shard_file(0, 2)).read_bytes()
    (tmp_path / shard_file(1, 2)).write_bytes(other)
    with pytest.raises(UserError, match=r"images-00001-of-00002\.tfrecord: altered .*crc32c"):
        read_all(tmp_path)


def test_blocks_of_another_size_hold_the_same_images():
    whole = Block([str(i) for i in range(10)], np.arange(10), np.arange(20).reshape(10, 2))
    found = [*whole.split(4), "other", *whole.split(10)]
    for size in (1, 3, 4, 7, 20, 100):
        made = list(regrouped(found, size))
        blocks = [each for each in made if isinstance(each, Block)]
        assert made.count("other") == 1
        assert [len(block.ids) for block in blocks[:-1]] == [size] * (20 // size - (20 % size == 0))
        assert [i for block in blocks for i in block.ids] == whole.ids * 2
        assert np.concatenate([block.labels for block in blocks]).tolist() == [*range(10)] * 2
        pixels = np.concatenate([block.pixels for block in blocks])
        np.testing.assert_array_equal(pixels, np.concatenate([whole.pixels, whole.pixels]))
    bare = whole._replace(labels=None)
    assert next(regrouped([bare, bare], 20)).labels is None

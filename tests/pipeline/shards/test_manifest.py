"""Blocks, fingerprints and manifests; every way a set of shards can be damaged."""

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.block import (
    Block,
    Fingerprint,
    ShardWriter,
    decode_block,
    encode_block,
    read_shard,
)
from pipeline.shards.manifest import MANIFEST, Manifest, load_manifest, shard_file

NAMES = ("cat", "dog", "élan")


def block(size: int, first: int = 0, labelled: bool = True, dtype: str = "uint8") -> Block:
    """`size` images of 6 pixels, each of which is different."""
    pixels = (np.arange(size * 6).reshape(size, 6) + first * 6) % 251
    labels = (np.arange(size) + first) % 3 if labelled else None
    return Block([f"train/{first + i:05d}" for i in range(size)], labels, pixels.astype(dtype))


def write_set(folder, sizes=(3, 4), labelled: bool = True) -> Manifest:
    """A set with a shard of two blocks for each of `sizes`."""
    written = []
    for number, size in enumerate(sizes):
        writer = ShardWriter(file := io.BytesIO())
        writer.write(block(size, 100 * number, labelled))
        writer.write(block(1, 100 * number + 50, labelled))
        name = shard_file(number, len(sizes))
        storage.write_bytes(str(folder / name), file.getvalue())
        written.append(writer.shard(name))
    manifest = Manifest(
        image_shape=(2, 3),
        num_features=6,
        dtype="uint8",
        num_images=sum(shard.num_images for shard in written),
        label_names=NAMES if labelled else None,
        shards=tuple(written),
        num_rejected=0,
        source={"input": "test"},
        fingerprint="0" * 32,
    )
    storage.write_bytes(str(folder / MANIFEST), manifest.to_json())
    return manifest


def read_all(folder) -> list[Block]:
    manifest = load_manifest(str(folder))
    return [b for shard in manifest.shards for b in read_shard(str(folder), shard, manifest)]


def change(path, edit) -> None:
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_block_round_trip(tmp_path, labelled, dtype):
    manifest = dataclasses.replace(write_set(tmp_path, labelled=labelled), dtype=dtype)
    before = block(5, labelled=labelled, dtype=dtype)
    after = decode_block(encode_block(before), manifest)
    assert after.ids == before.ids
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert after.pixels.dtype == dtype
    if labelled:
        np.testing.assert_array_equal(after.labels, before.labels)
    else:
        assert after.labels is None


def test_set_round_trip(tmp_path):
    manifest = write_set(tmp_path)
    assert load_manifest(str(tmp_path)) == manifest
    assert [len(b.ids) for b in read_all(tmp_path)] == [3, 1, 4, 1]


def test_an_image_costs_its_pixels_and_a_few_bytes():
    pixels = np.zeros((1000, 784), np.uint8)
    ids = [f"train/{i:05d}" for i in range(1000)]
    data = encode_block(Block(ids, np.arange(1000) % 10, pixels))
    assert len(data) < 1000 * (784 + 20)


@given(st.integers(1, 30), st.data())
def test_fingerprint_ignores_order_and_grouping(size, data):
    whole = Fingerprint()
    whole.add(all_of := block(size))
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
    before.add(original := block(3))
    changed = Block(list(original.ids), original.labels.copy(), original.pixels.copy())
    getattr(changed, field)[1] = "other" if field == "ids" else 77
    after.add(changed)
    assert before.hex() != after.hex()


def test_no_manifest(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: not found; make the shards first"):
        load_manifest(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_manifest_that_is_none(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of shards; shard the set"):
        load_manifest(str(tmp_path))


def test_manifest_of_a_newer_format(tmp_path):
    fields = json.loads(write_set(tmp_path).to_json()) | {"format_version": 2}
    (tmp_path / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(UserError, match="format_version 2, but this version reads 1; update"):
        load_manifest(str(tmp_path))


@pytest.mark.parametrize("field", ["image_shape", "shards", "label_names", "num_images"])
def test_manifest_that_misses_a_field(tmp_path, field):
    fields = json.loads(write_set(tmp_path).to_json())
    del fields[field]
    (tmp_path / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(UserError, match=f"incomplete or damaged .*{field}"):
        load_manifest(str(tmp_path))


def test_shard_missing(tmp_path):
    write_set(tmp_path)
    (tmp_path / shard_file(1, 2)).unlink()
    with pytest.raises(UserError, match=r"images-00001-of-00002\.tfrecord: this shard is missing"):
        load_manifest(str(tmp_path))


def test_one_shard_too_many(tmp_path):
    write_set(tmp_path)
    (tmp_path / shard_file(2, 3)).write_bytes(b"")
    with pytest.raises(UserError, match=r"images-00002-of-00003\.tfrecord: not in the manifest"):
        load_manifest(str(tmp_path))


def test_shard_truncated(tmp_path):
    write_set(tmp_path)
    change(tmp_path / shard_file(0, 2), lambda data: data.__delitem__(slice(-10, None)))
    with pytest.raises(UserError, match=r"images-00000-of-00002\.tfrecord: truncated or altered: "):
        load_manifest(str(tmp_path))


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

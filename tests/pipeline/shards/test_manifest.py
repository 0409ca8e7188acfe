"""Manifests; every kind of damage to a set of shards that shows before a shard is read."""

import json

import pytest
from small_set import change, write_set

from pipeline.errors import UserError
from pipeline.shards.manifest import MANIFEST, load_manifest, shard_file


def test_a_manifest_comes_back(tmp_path):
    manifest = write_set(tmp_path)
    assert load_manifest(str(tmp_path)) == manifest


def test_no_manifest(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: no such file; make the shards first"):
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

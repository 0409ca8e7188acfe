"""Ids that repeat are found in any order, in any number of files and ranges."""

import numpy as np
import pytest

from pipeline.shards import ids


def put(folder, *parts: list[str]) -> list[str]:
    paths = [str(folder / ids.part_file(number, len(parts))) for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        ids.write_part(path, [ids.hashed(part[:2]), ids.hashed(part[2:])])
    return paths


def test_ids_of_numbered_images():
    assert ids.numbered_ids("train", 99_999, 100_001) == ["train/99999", "train/100000"]


@pytest.mark.parametrize("hashes_at_a_time", [1, 7, 1 << 22])
def test_repeated_within_and_between_files(tmp_path, monkeypatch, hashes_at_a_time):
    monkeypatch.setattr(ids, "RANGE_HASHES", hashes_at_a_time)
    names = [str(number) for number in range(50)]
    paths = put(tmp_path, names[:20], ["a", "a", "a", "b"], [], [*names[20:], "b", "7"])
    found = ids.repeated(paths, 56)
    assert found.tolist() == np.sort(ids.hashed(["a", "b", "7"])).tolist()
    assert [ids.count_in(path, found) for path in paths] == [1, 4, 0, 2]


def test_none_repeats(tmp_path):
    assert len(ids.repeated(put(tmp_path, ["a"], ["b"]), 2)) == 0


def test_the_least_and_the_largest_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "RANGE_HASHES", 1)
    ends = np.array([0, 1 << 63, (1 << 64) - 1], np.uint64)
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        ids.write_part(path, [ends])
    assert ids.repeated(paths, 6).tolist() == ends.tolist()

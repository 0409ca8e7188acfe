"""Splits that names of folders and files tell."""

import numpy as np
import pytest
import sets

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import open_source
from pipeline.sources.splits import split_in, split_named

PNG = sets.encoded(np.zeros((3, 4), np.uint8))


def put(root, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return str(root)


def ids(source) -> list[str]:
    listed = (found for part in source.parts() for found in source.list_part(part))
    chunks = [chunk for _, chunk in plan.grouped(listed, 1)]
    return [i for block in source.read(plan.Listing(0, chunks)) for i in block.ids]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("mnist-test.tfrecord-00000-of-00001", "test"),
        ("train/data-00000.arrow", "train"),
        ("old_train/Validation.csv", "validation"),
        ("t10k-images-idx3-ubyte", "test"),
        ("training.zip", "train"),
        ("trains.csv", None),
        ("contest.csv", None),
    ],
)
def test_the_last_word_tells_the_split(name, split):
    assert split_in(name) == split


def test_folders_are_splits_by_their_whole_name():
    assert [split_named(n) for n in ("Train", "test", "val", "test cars")] == [
        "train",
        "test",
        "validation",
        None,
    ]


SPLITS = ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "val/dog/4.png")


@pytest.mark.parametrize(("split", "found"), [("train", 2), ("test", 1), ("all", 4)])
def test_folders_of_splits(tmp_path, caplog, split, found):
    source = open_source(put(tmp_path, *SPLITS), split)
    assert source.num_images == found
    assert source.label_names == (("cat",) if split == "test" else ("cat", "dog"))
    assert set(ids(source)) <= set(SPLITS)
    assert f"read as splits: test, train, validation; --split is {split}" in caplog.text


def test_one_folder_that_is_no_split_makes_all_of_them_labels(tmp_path):
    source = open_source(put(tmp_path, "train/1.png", "plane/1.png"))
    assert source.label_names == ("plane", "train")


def test_files_beside_folders_of_splits_are_not_read(tmp_path, caplog):
    source = open_source(put(tmp_path, *SPLITS, "5.png"))
    assert (source.num_images, source.num_skipped) == (2, 1)
    assert "1 file is not read: 1 .png" in caplog.text


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"--split test: .* has only train; give a --split that it"):
        open_source(put(tmp_path, "train/cat/1.png"), "test")


@pytest.mark.parametrize(("split", "found"), [("train", 5), ("test", 2), ("all", 7)])
def test_files_of_splits(tmp_path, split, found):
    for name, size in (("train", 5), ("test", 2)):
        path = sets.write_parquet(tmp_path, *sets.digits(size))
        (tmp_path / "set.parquet").rename(tmp_path / f"{name}-00000-of-00001.parquet")
    assert open_source(str(tmp_path), split).num_images == found
    assert path


def test_files_that_are_given_have_no_splits(tmp_path):
    path = sets.write_parquet(tmp_path, *sets.digits(5))
    with pytest.raises(UserError, match="has no splits: all of it counts as train"):
        open_source(path, "test")

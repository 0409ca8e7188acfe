"""idx files: names, splits, damage."""

import gzip

import numpy as np
import pytest
import sets
from sets import read

from pipeline.errors import UserError
from pipeline.sources import open_source
from pipeline.sources.arrays.idx import labels_beside

IMAGES, LABELS = sets.digits(6)


@pytest.fixture
def folder(tmp_path):
    """A folder with both splits, as it was distributed."""
    sets.write_idx(tmp_path, IMAGES, LABELS, "train")
    sets.write_idx(tmp_path, IMAGES[:2], LABELS[:2], "t10k")
    return tmp_path


@pytest.mark.parametrize(("split", "size"), [("train", 6), ("test", 2), ("all", 8)])
def test_splits_of_a_folder(folder, split, size):
    block = read(open_source(str(folder), split))
    assert len(block.ids) == size
    last = IMAGES[-2:] if split == "train" else IMAGES[:2]
    np.testing.assert_array_equal(block.pixels[-2:], last.reshape(2, 30))


def test_ids_are_those_of_npz(folder):
    assert read(open_source(str(folder), "all")).ids[5:7] == ["train/00005", "test/00000"]


def test_a_glob_takes_labels_along(folder):
    block = read(open_source(str(folder / "*ubyte*")))
    assert block.ids == [f"test/0000{i}" for i in range(2)] + [f"train/0000{i}" for i in range(6)]
    assert block.labels.tolist() == [*LABELS[:2], *LABELS]


def test_plain_images_of_any_name(tmp_path):
    (tmp_path / "emnist-letters-images-idx3-ubyte").write_bytes(sets.idx_bytes(IMAGES))
    source = open_source(str(tmp_path / "emnist-letters-images-idx3-ubyte"))
    assert source.label_names is None
    np.testing.assert_array_equal(read(source).pixels, IMAGES.reshape(6, 30))


@pytest.mark.parametrize("name", ["x-labels-idx1-ubyte", "x-labels-idx1-ubyte.gz"])
def test_labels_are_found_packed_or_not(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    for images in ("x-images-idx3-ubyte", "x-images-idx3-ubyte.gz"):
        assert labels_beside(str(tmp_path / images)) == str(tmp_path / name)


def test_split_that_is_not_there(tmp_path):
    sets.write_idx(tmp_path, IMAGES, LABELS, "train")
    with pytest.raises(UserError, match=r"--split all: .* has no t10k-images-idx3-ubyte\[\.gz\]"):
        open_source(str(tmp_path), "all")
    with pytest.raises(UserError, match=r"--split test: .* is not called t10k-…, so it counts"):
        open_source(str(tmp_path / "train-images-idx3-ubyte.gz"), "test")


def test_only_labels(tmp_path):
    sets.write_idx(tmp_path, IMAGES, LABELS)
    with pytest.raises(UserError, match="only labels; give the images"):
        open_source(str(tmp_path / "train-labels-idx1-ubyte"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: b"\x89PNG" + data[4:], r"not an idx file \(it begins with 89504e47\)"),
        (lambda data: data[:2] + b"\x0a" + data[3:], "idx type 0x0a; those that are read are 0x08"),
        (lambda data: data[:9], r"damaged or not an idx file \(it ends 7 bytes too"),
        (lambda data: data[:-9], r"damaged or not an idx file \(it ends 9 bytes too early\); make"),
    ],
)
def test_damage(tmp_path, edit, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(edit(sets.idx_bytes(IMAGES)))
    with pytest.raises(UserError, match=f"train-images-idx3-ubyte: {message}"):
        read(open_source(str(path)))


def test_damaged_gzip(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(sets.idx_bytes(IMAGES))[:-20])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: damaged"):
        read(open_source(str(path)))


def test_labels_for_other_images(tmp_path):
    path = sets.write_idx(tmp_path, IMAGES, LABELS[:4])
    with pytest.raises(UserError, match=r"labels-idx1-ubyte: labels of shape \(4,\) for 6 im"):
        open_source(path)


def test_a_folder_called_like_the_file_beside_it(tmp_path):
    """Kaggle's MNIST: the folder train-images-idx3-ubyte beside train-images.idx3-ubyte."""
    for name, array in (("images", IMAGES), ("labels", LABELS.astype(np.uint8))):
        ending = f"idx{array.ndim}-ubyte"
        (tmp_path / f"train-{name}-{ending}").mkdir()
        (tmp_path / f"train-{name}.{ending}").write_bytes(sets.idx_bytes(array))
    for path in (tmp_path, tmp_path / "train-images.idx3-ubyte"):
        block = read(open_source(str(path)))
        assert block.ids[0] == "train/00000"
        assert block.labels.tolist() == LABELS.tolist()


def test_names_that_differ_in_what_ids_leave_out(tmp_path):
    for name in ("train-images-idx3-ubyte", "train.images.idx3-ubyte"):
        (tmp_path / name).write_bytes(sets.idx_bytes(IMAGES))
    block = read(open_source(str(tmp_path / "train*")))
    assert len(set(block.ids)) == 2 * len(IMAGES)

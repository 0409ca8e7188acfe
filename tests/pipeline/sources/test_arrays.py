"""NumPy files, whole and damaged."""

import numpy as np
import pytest
from sets import read

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import open_source


def npz(folder, **arrays) -> str:
    np.savez(path := folder / "set.npz", **arrays)
    return str(path)


def npy(folder, array, name="set.npy") -> str:
    np.save(folder / name, array)
    return str(folder / name)


IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)


@pytest.mark.parametrize(("split", "ids"), [("train", 4), ("test", 2), ("all", 6)])
def test_splits_of_npz(tmp_path, split, ids):
    path = npz(tmp_path, x_train=IMAGES, y_train=[0, 1, 2, 0], x_test=IMAGES[:2], y_test=[3, 3])
    block = read(open_source(path, split))
    assert len(block.ids) == ids
    assert block.ids[0] == ("test/00000" if split == "test" else "train/00000")
    assert block.labels.tolist()[-1] == (0 if split == "train" else 3)


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "set.npz", x_train=IMAGES)
    source = open_source(str(tmp_path / "set.npz"))
    np.testing.assert_array_equal(read(source).pixels, IMAGES.reshape(4, 6))
    assert source.label_names is None


def test_several_files_keep_their_ids_apart(tmp_path):
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x_train=IMAGES[:1])
    assert read(open_source(str(tmp_path / "*.npz"))).ids == ["a/train/00000", "b/train/00000"]


def test_npy_with_labels_beside_it(tmp_path):
    path = npy(tmp_path, IMAGES)
    npy(tmp_path, np.array([5, 0, 0, 1]), "set_labels.npy")
    source = open_source(path)
    assert source.label_names == ("0", "1", "2", "3", "4", "5")
    assert read(source).labels.tolist() == [5, 0, 0, 1]


def test_float_rows_have_no_image_shape(tmp_path):
    rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    source = open_source(npy(tmp_path, rows))
    assert (source.image_shape, source.dtype) == ((4,), "float32")
    np.testing.assert_array_equal(read(source).pixels, rows)


def test_any_piece_is_a_part_of_the_whole(tmp_path):
    source = open_source(npz(tmp_path, x_train=IMAGES, x_test=IMAGES), "all")
    whole = read(source)
    for start in range(8):
        for stop in range(start + 1, 9):
            (found,) = [np.concatenate([b.pixels for b in source.read(plan.Piece(0, start, stop))])]
            np.testing.assert_array_equal(found, whole.pixels[start:stop])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5, np.uint8), r"set\.npy: an array of rank 1, shape \(5,\); images are n × h"),
        (np.zeros((0, 2, 2), np.uint8), r"set\.npy: 0 images or pixels"),
        (np.zeros((3, 2), np.int64), r"set\.npy: dtype int64; images are uint8 or float32: conv"),
        (np.zeros((3, 2), np.float64), r"set\.npy: dtype float64"),
        (np.asfortranarray(np.zeros((3, 2), np.uint8)), r"set\.npy: in Fortran order; save"),
        (np.array([["a", None]], object), r"set\.npy: holds Python objects"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, message):
    with pytest.raises(UserError, match=message):
        open_source(npy(tmp_path, array))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(tmp_path, value):
    rows = np.ones((3, 2), np.float32)
    rows[1, 1] = value
    with pytest.raises(UserError, match=f"image train/00001 has a pixel that is {value}; remove"):
        read(open_source(npy(tmp_path, rows)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), "y_train: 3 labels for 4 images"),
        (np.array([0, 1, 2, -1]), "y_train: labels of dtype int64; integers 0 … 65535"),
        (np.zeros(4, np.float32), "y_train: labels of dtype float32"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        open_source(npz(tmp_path, x_train=IMAGES, y_train=labels))


def test_npz_without_the_split(tmp_path):
    with pytest.raises(UserError, match=r"--split test: .*set\.npz has no x_test, only x_train"):
        open_source(npz(tmp_path, x_train=IMAGES), "test")


def test_npy_has_no_splits(tmp_path):
    with pytest.raises(UserError, match=r"--split test: .*set\.npy has no splits: all of it"):
        open_source(npy(tmp_path, IMAGES), "test")


def test_splits_that_differ_in_shape(tmp_path):
    with pytest.raises(UserError, match="parts differ in image shape or dtype"):
        open_source(npz(tmp_path, x_train=IMAGES, x_test=IMAGES[:, :1]), "all")


def test_file_that_is_no_npz(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"set\.npz: damaged or not an npz file"):
        open_source(str(tmp_path / "set.npz"))


def test_npy_that_ends_too_early(tmp_path):
    path = npy(tmp_path, IMAGES)
    (tmp_path / "set.npy").write_bytes((tmp_path / "set.npy").read_bytes()[:-5])
    with pytest.raises(UserError, match=r"set\.npy: damaged .*it ends 5 bytes too early"):
        read(open_source(path))

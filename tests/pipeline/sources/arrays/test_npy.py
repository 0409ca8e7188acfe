"""NumPy files, whole and damaged."""

import io
import zipfile

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
        (np.full((3, 2), 4095, ">u2"), r"set\.npy: >u2 values 4095 … 4095; images are uint8, 0"),
        (np.full((3, 2), -1), r"int64 values -1 … -1; .*scale them to 0 … 255 before x.astype"),
        (np.zeros((3, 2), np.complex64), r"set\.npy: dtype complex64; images are uint8 or float32"),
        (np.array([["a", None]], object), r"set\.npy: holds Python objects"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, message):
    with pytest.raises(UserError, match=message):
        open_source(npy(tmp_path, array))


@pytest.mark.parametrize(
    ("array", "stored"),
    [
        (np.arange(6).reshape(3, 2), "uint8"),
        (np.arange(6, dtype=">u2").reshape(3, 2) * 51, "uint8"),
        (np.eye(3, 2, dtype=bool), "uint8"),
        (np.linspace(0, 1, 6).reshape(3, 2), "float32"),
        (np.linspace(0, 1, 6, dtype=">f4").reshape(3, 2), "float32"),
        (np.linspace(0, 1, 6, dtype=np.float16).reshape(3, 2), "float32"),
        (np.linspace(0, 1, 6, dtype=">f8").reshape(3, 2), "float32"),
    ],
)
def test_other_numbers_are_converted_and_said_to_be(tmp_path, caplog, array, stored):
    source = open_source(npy(tmp_path, array))
    block = read(source)
    assert source.dtype == block.pixels.dtype == stored
    np.testing.assert_array_equal(block.pixels, array.astype(stored))
    assert f"{array.dtype} pixels are read as {stored}" in caplog.text


def test_a_float_that_float32_cannot_hold(tmp_path):
    with pytest.raises(UserError, match=r"set\.npy: a pixel of 1e\+300, which float32 cannot hold"):
        read(open_source(npy(tmp_path, np.full((3, 2), 1e300))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(tmp_path, value):
    rows = np.ones((3, 2), np.float32)
    rows[1, 1] = value
    with pytest.raises(UserError, match=f"image train/00001 has a pixel that is {value}; remove"):
        read(open_source(npy(tmp_path, rows)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), r"y_train: labels of shape \(3,\) for 4 images; give one for each"),
        (np.zeros((2, 2), int), r"y_train: labels of shape \(2, 2\) for 4 images"),
        (np.array(3), r"y_train: labels of shape \(\) for 4 images"),
        (np.array([0, 1, 2, 0.5]), r"y_train: a label of 0\.5; 64-bit integers or names are need"),
        (np.full(4, (1 << 64) - 1, np.uint64), "y_train: a label of 18446744073709551615; 64-bit"),
        (np.ones((4, 3), int), r"y_train: a label of 3 values \(1, 1, 1\), which is not one-hot"),
        (np.zeros(4, "M8[s]"), r"y_train: labels of dtype datetime64\[s\]"),
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


@pytest.mark.parametrize(
    ("given", "names", "labels"),
    [
        (np.array([0.0, 2.0, np.nan, -1.0]), ("0", "1", "2"), [0, 2, -1, -1]),
        (np.array([True, False, True, True]), ("0", "1"), [1, 0, 1, 1]),
        (np.eye(4, 3)[[1, 0, 2, 1]], ("0", "1", "2"), [1, 0, 2, 1]),
        (np.array([[7], [7], [8], [-1]]), tuple("012345678"), [7, 7, 8, -1]),
        (np.array([1 << 62, -5, 3, -1]), ("-5", "3", str(1 << 62)), [2, 0, 1, -1]),
        (np.array(["dog", "cat", "dog", "é"]), ("cat", "dog", "é"), [1, 0, 1, 2]),
    ],
)
def test_labels_of_every_kind(tmp_path, given, names, labels):
    np.savez(tmp_path / "set.npz", x_train=np.zeros((4, 2, 2), np.uint8), y_train=given)
    source = open_source(str(tmp_path / "set.npz"))
    assert source.label_names == names
    assert read(source).labels.tolist() == labels


def test_labels_that_are_all_none(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=np.zeros((4, 2), np.uint8), y_train=np.full(4, -1))
    assert open_source(str(tmp_path / "set.npz")).label_names is None


def test_a_file_without_labels_beside_one_with(tmp_path, caplog):
    images = np.zeros((2, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.array([1, 0]))
    np.savez(tmp_path / "b.npz", x_train=images)
    source = open_source(str(tmp_path / "*.npz"))
    assert read(source).labels.tolist() == [1, 0, -1, -1]
    assert "images without labels: " in caplog.text


def test_a_member_without_its_ending(tmp_path):
    """numpy.load reads it, too."""
    np.save(buffer := io.BytesIO(), np.eye(3, dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x_train", buffer.getvalue())
    assert read(open_source(str(tmp_path / "set.npz"))).pixels.tolist() == np.eye(3).tolist()


def _encrypted(data: bytearray, entry: int) -> None:
    data[6] |= 1
    data[entry + 8] |= 1


def _of_another_method(data: bytearray, entry: int) -> None:
    data[8] = data[entry + 10] = 93


def _with_an_odd_header(data: bytearray, entry: int) -> None:
    start = data.index(b"{'descr'")
    data[start : start + 8] = b"{[('descr"[:8]


def _deflated_badly(data: bytearray, entry: int) -> None:
    data[77:80] = b"\xff\0\xff"


@pytest.mark.parametrize(
    "damage", [_encrypted, _of_another_method, _with_an_odd_header, _deflated_badly]
)
def test_whatever_a_decoder_raises_names_file_and_member(tmp_path, damage):
    save = np.savez_compressed if damage is _deflated_badly else np.savez
    save(tmp_path / "set.npz", x_train=np.tile(np.arange(200, dtype=np.uint8), (40, 3)))
    data = bytearray((tmp_path / "set.npz").read_bytes())
    damage(data, data.find(b"PK\1\2"))
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"set\.npz: x_train: damaged or not an npz file \(."):
        read(open_source(str(tmp_path / "set.npz")))

"""TFRecord files of tf.train.Example: every feature that is read, and damage."""

import gzip
import zlib

import numpy as np
import pytest
import sets
from sets import read

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.ids import hashed
from pipeline.sources import Rejection, open_source
from pipeline.sources.labels import Unnamed
from pipeline.sources.records import source as tfrecords

IMAGES, LABELS = sets.digits(6)
PNGS = [sets.encoded(pixels) for pixels in IMAGES]
WRONG = {"image/encoded": PNGS[1], "label": [0.0, 1.0, 1.0]}


def put(folder, *rows: dict, name="set.tfrecord") -> str:
    (folder / name).write_bytes(sets.records(rows))
    return str(folder / name)


def raw(pixels: np.ndarray, **other) -> dict:
    """An Example of decoded pixels [h, w, c]."""
    sides = zip(("height", "width", "channels"), pixels.shape, strict=True)
    return {"image/raw": pixels.tobytes(), **{f"image/{k}": n for k, n in sides}, **other}


@pytest.mark.parametrize("key", ["image/class/label", "label"])
def test_integer_labels(tmp_path, key):
    path = put(tmp_path, {"image/encoded": PNGS[0], key: 7}, {"image/encoded": PNGS[1], key: 2})
    source = open_source(path)
    assert source.label_names == ()  # to be named by their digits
    block = read(source)
    assert block.labels.tolist() == [7, 2]
    np.testing.assert_array_equal(block.pixels, IMAGES[:2].reshape(2, 30))
    assert block.ids == ["set.tfrecord/00000", "set.tfrecord/00001"]


def test_names_as_labels(tmp_path):
    rows = [{"image/encoded": PNGS[i], "label": name} for i, name in enumerate("cabc")]
    source = open_source(put(tmp_path, *rows))
    assert source.label_names == ("a", "b", "c")
    assert read(source).labels.tolist() == [2, 0, 1, 2]


def test_no_labels(tmp_path):
    source = open_source(put(tmp_path, {"image/encoded": PNGS[0]}))
    assert read(source).labels.tolist() == [-1]


@pytest.mark.parametrize(
    ("values", "label"),
    [([0.0, 1.0, 0.0], 1), ([3.0], 3), ([float("nan")], -1), (-1, -1), ("", -1), (65_535, 65_535)],
)
def test_labels_of_every_kind(tmp_path, values, label):
    path = put(tmp_path, {"image/encoded": PNGS[0]}, {"image/encoded": PNGS[1], "label": values})
    assert read(open_source(path)).labels.tolist() == [-1, label]


def test_a_label_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"set\.tfrecord: record 1: a label of 3 values"):
        open_source(put(tmp_path, {"image/encoded": PNGS[0], "label": 1}, WRONG))


@pytest.mark.parametrize("label", [70_000, -5, "cat"])
def test_a_label_that_has_no_number_yet(tmp_path, label):
    path = put(tmp_path, {"image/encoded": PNGS[0]}, {"image/encoded": PNGS[1], "label": label})
    source = open_source(path)
    unnamed, block = source.read(plan.Piece(0, 0, 2))
    assert (unnamed, block.labels.tolist()) == (Unnamed(label), [-1, -1])
    named = source.renamed(("a", str(label)), hashed([]))
    assert read(named).labels.tolist() == [-1, 1]


def test_ids_that_repeat_are_positions(tmp_path):
    names = ["a", "b", "set.tfrecord/00003", "c/00003"]
    rows = [{"image/encoded": PNGS[i], "image/filename": name} for i, name in enumerate(names)]
    source = open_source(put(tmp_path, *rows))
    assert read(source).ids == ["a", "b", "set.tfrecord/00002", "c/00003"]
    renamed = read(source.renamed((), np.sort(hashed(["b", "c/00003"]))))
    assert renamed.ids == ["a", *(f"set.tfrecord/0000{i}" for i in (1, 2, 3))]


def test_file_names_are_ids(tmp_path):
    path = put(tmp_path, {"image/encoded": PNGS[0], "image/filename": "ä/1.png"})
    assert read(open_source(path)).ids == ["ä/1.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_pixels(tmp_path, channels):
    pixels = np.arange(4 * 5 * channels, dtype=np.uint8).reshape(4, 5, channels)
    source = open_source(put(tmp_path, raw(pixels)))
    assert source.image_shape == ((4, 5) if channels == 1 else (4, 5, 3))
    np.testing.assert_array_equal(read(source).pixels, pixels.reshape(1, -1))


def test_floats(tmp_path):
    source = open_source(put(tmp_path, {"features": [1.5, -2.0, 0.25]}, {"features": [0.0] * 3}))
    assert (source.image_shape, source.dtype) == ((3,), "float32")
    assert read(source).pixels.tolist() == [[1.5, -2.0, 0.25], [0, 0, 0]]


def test_floats_that_are_no_numbers(tmp_path):
    path = put(tmp_path, {"features": [1.0, 2.0]}, {"features": [1.0, float("nan")]})
    with pytest.raises(UserError, match=r"image set\.tfrecord/00001 has a pixel that is nan"):
        read(open_source(path))


def test_floats_cannot_be_resized(tmp_path):
    with pytest.raises(UserError, match="holds float32 of shape 2; only uint8 images can be"):
        open_source(put(tmp_path, {"features": [1.0, 2.0]}), image_size=(2, 2))


@pytest.mark.parametrize("packed", [False, True])
def test_any_piece_of_several_files(tmp_path, monkeypatch, packed):
    """Pieces begin between the offsets that are kept, and in another file."""
    monkeypatch.setattr(tfrecords, "STRIDE", 2)
    for name, part in (("a", slice(0, 5)), ("b", slice(5, 6))):
        data = sets.records({"image/encoded": png} for png in PNGS[part])
        (tmp_path / f"{name}.tfrecord").write_bytes(gzip.compress(data) if packed else data)
    source = open_source(str(tmp_path / "*.tfrecord"))
    for start in range(6):
        for stop in range(start + 1, 7):
            blocks = list(source.read(plan.Piece(0, start, stop)))
            pixels = np.concatenate([block.pixels for block in blocks])
            np.testing.assert_array_equal(pixels, IMAGES[start:stop].reshape(stop - start, 30))


def test_what_is_rejected_and_why(tmp_path):
    pixels = np.zeros((6, 5, 1), np.uint8)
    rows = [
        {"image/encoded": PNGS[0], "label": 1},
        {"image/encoded": PNGS[0][:60], "label": 1},
        {"image/encoded": b"", "label": 1},
        {"image/encoded": PNGS[0]},
        raw(pixels, label=1) | {"image/height": 7},
    ]
    source = open_source(put(tmp_path, *rows))
    found = [row for row in source.read(plan.Piece(0, 0, 5)) if isinstance(row, Rejection)]
    assert [row.reason for row in found] == [
        "damaged: it ends before its last chunk",
        "empty image",
        "30 bytes instead of 7 × 5 × 1",
    ]


def test_rows_of_another_length_are_rejected(tmp_path):
    source = open_source(put(tmp_path, {"features": [1.0, 2.0]}, {"features": [1.0]}))
    *_, rejection = sorted(source.read(plan.Piece(0, 0, 2)), key=lambda row: len(row))[:1]
    assert rejection == Rejection("set.tfrecord/00001", "1 values instead of 2")


def test_a_flipped_byte(tmp_path):
    path = put(tmp_path, *({"image/encoded": png} for png in PNGS))
    data = bytearray((tmp_path / "set.tfrecord").read_bytes())
    data[-20] ^= 255
    (tmp_path / "set.tfrecord").write_bytes(data)
    with pytest.raises(UserError, match=r"set\.tfrecord: damaged TFRecord file \(wrong checksum"):
        read(open_source(path))


def test_a_file_cut_short(tmp_path):
    path = put(tmp_path, {"image/encoded": PNGS[0]})
    (tmp_path / "set.tfrecord").write_bytes((tmp_path / "set.tfrecord").read_bytes()[:-6])
    with pytest.raises(UserError, match=r"set\.tfrecord: damaged TFRecord file \(cut short\)"):
        open_source(path)


@pytest.mark.parametrize("content", [b"hello, this is no TFRecord", b"hello"])
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "set.tfrecord").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tfrecord: damaged TFRecord file"):
        open_source(str(tmp_path / "set.tfrecord"))


def test_a_record_that_is_no_example(tmp_path):
    (tmp_path / "set.tfrecord").write_bytes(b"".join(sets.frame(b"\xff\xff")))
    with pytest.raises(UserError, match=r"set\.tfrecord: record 0 is no tf\.train\.Example"):
        open_source(str(tmp_path / "set.tfrecord"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"thing": b"x", "size": 3}, r"an Example without image/encoded, .*; it has size, thing"),
        ({}, "an Example without image/encoded, .*; it has nothing"),
        ({"image/raw": b"x", "image/height": 1}, "image/raw needs image/width, an integer"),
    ],
)
def test_an_example_without_the_feature(tmp_path, row, message):
    path = put(tmp_path, {"image/encoded": PNGS[0]}, row)
    with pytest.raises(UserError, match=rf"set\.tfrecord: record 1: {message}"):
        read(open_source(path))


def test_no_records(tmp_path):
    with pytest.raises(UserError, match="0 images; nothing to cluster"):
        open_source(put(tmp_path))


def test_class_names_beside_the_files(tmp_path):
    rows = [{"image": PNGS[i], "label": i} for i in (1, 0)]
    path = put(tmp_path, *rows)
    (tmp_path / "label.labels.txt").write_text("cat\ndog\n")
    (tmp_path / "other.labels.txt").write_text("no\n")
    source = open_source(path)
    assert source.label_names == ("cat", "dog")
    assert read(source).labels.tolist() == [1, 0]
    assert open_source(path, label_column="none").label_names is None
    with pytest.raises(UserError, match="record 0: label 2, but 2 names of labels lie beside the"):
        open_source(put(tmp_path, {"image": PNGS[0], "label": 2}))


def test_labels_of_objects_are_no_labels_of_images(tmp_path, caplog):
    path = put(tmp_path, {"image/encoded": PNGS[0], "image/object/class/label": 3})
    assert read(open_source(path)).labels.tolist() == [-1]
    assert "image/object/class/label of" in caplog.text
    assert "labels objects in an image, not the image: no labels are read" in caplog.text


@pytest.mark.parametrize("sides", [{}, {"height": 6, "width": 5, "depth": 1}])
def test_image_raw_is_encoded_or_not(tmp_path, sides):
    data = IMAGES[0].tobytes() if sides else PNGS[0]
    block = read(open_source(put(tmp_path, {"image_raw": data, "label": 1, **sides})))
    np.testing.assert_array_equal(block.pixels, IMAGES[:1].reshape(1, 30))


def test_features_that_are_asked_for(tmp_path):
    row = {"image": PNGS[0], "label": 1, "thumb": PNGS[1], "kind": "x"}
    path = put(tmp_path, row)
    source = open_source(path, image_column="thumb", label_column="kind")
    np.testing.assert_array_equal(read(source).pixels, IMAGES[1:2].reshape(1, 30))
    assert source.label_names == ("x",)
    with pytest.raises(
        UserError, match=r"--image-column gone: .* has no image there, only image, k"
    ):
        open_source(path, image_column="gone")
    with pytest.raises(
        UserError, match=r"--label-column gone: .* has only image, kind, label, thumb"
    ):
        open_source(path, label_column="gone")


def test_integers_are_bytes(tmp_path):
    integers = sets.Example()
    integers.features.feature["image"].int64_list.value.extend([1, 2, 3, 255])
    for key in ("height", "width"):
        integers.features.feature[key].int64_list.value.append(2)
    path = tmp_path / "set.tfrecord"
    path.write_bytes(b"".join(sets.frame(integers.SerializeToString())))
    source = open_source(str(path))
    assert (source.image_shape, source.dtype) == ((2, 2), "uint8")
    assert read(source).pixels.tolist() == [[1, 2, 3, 255]]
    integers.features.feature["image"].int64_list.value[0] = 256
    path.write_bytes(b"".join(sets.frame(integers.SerializeToString())))
    with pytest.raises(UserError, match="integers 2 … 256; images are 0 … 255, or floats"):
        open_source(str(path))


@pytest.mark.parametrize(("cut", "level"), [(-8, 9), (-8, 0), (40, 9)])
def test_a_damaged_zlib_stream(tmp_path, cut, level):
    data = zlib.compress(sets.records({"image": png} for png in PNGS), level)
    (tmp_path / "set.tfrecord").write_bytes(data[:cut])
    with pytest.raises(UserError, match=r"set\.tfrecord: damaged (zlib stream|TFRecord file) \("):
        open_source(str(tmp_path / "set.tfrecord"))

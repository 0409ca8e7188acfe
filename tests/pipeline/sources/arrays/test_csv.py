"""CSV files: headers, labels, shapes, and lines that are no image."""

import gzip

import numpy as np
import pytest
from sets import read

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import Rejection, open_source
from pipeline.sources.arrays import csv


def put(folder, *lines: str, name: str = "set.csv") -> str:
    data = "\n".join(lines).encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return str(folder / name)


HEADER = "label,pixel0,pixel1,pixel2,pixel3"


@pytest.mark.parametrize(
    ("lines", "labels", "shape"),
    [
        ([HEADER, "7,1,2,3,4", "2,5,6,7,8"], [7, 2], (2, 2)),
        (["7,1,2,3,4", "2,5,6,7,8"], [7, 2], (2, 2)),
        (["1,2,3,4", "5,6,7,8"], None, (2, 2)),
        (["a,b,c,d", "1,2,3,4", "5,6,7,8", ""], None, (2, 2)),
        (["1;2;3;4", "5;6;7;8"], None, (2, 2)),
        (["cat,1,2,3,4", "ant,5,6,7,8"], [1, 0], (2, 2)),
        (['"1","2","3","4"', '"5","6","7","8"'], None, (2, 2)),
        ([",class,a,b,c,d", "0,x,1,2,3,4", "1,y,5,6,7,8"], [0, 1], (2, 2)),
        (["emotion,pixels,Usage", "3,1 2 3 4,Training", "4,5 6 7 8,Test"], None, (2, 2)),
        (["\ufefflabel,a,b,c,d", "7,1,2,3,4", "2,5,6,7,8"], [7, 2], (2, 2)),
    ],
)
def test_columns(tmp_path, lines, labels, shape):
    source = open_source(put(tmp_path, *lines))
    assert (source.image_shape, source.dtype) == (shape, "uint8")
    block = read(source)
    assert block.pixels.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (None if labels is None else block.labels.tolist()) == labels
    assert block.ids == ["set.csv/00000", "set.csv/00001"]


def test_a_column_that_is_asked_for(tmp_path):
    path = put(tmp_path, "emotion,pixels,Usage", "3,1 2 3 4,Training", "4,5 6 7 8,Test")
    assert read(open_source(path, label_column="emotion")).labels.tolist() == [3, 4]
    assert open_source(path, label_column="Usage").label_names == ("Test", "Training")


@pytest.mark.parametrize(
    ("lines", "dtype"),
    [
        (["1,2,3,255"], "uint8"),
        (["1,2,3,256"], "float32"),
        (["1,2,3,1000"], "float32"),
        (["1,2,3,4", "0.5,1,1,1"], "float32"),
        (["1,2,3,4", "-1,1,1,1"], "float32"),
        (["1e2,2,3,4"], "float32"),
    ],
)
def test_numbers_that_are_not_all_bytes_are_vectors(tmp_path, lines, dtype):
    source = open_source(put(tmp_path, *lines))
    assert (source.dtype, source.image_shape) == (dtype, (2, 2) if dtype == "uint8" else (4,))
    expected = [[float(value) for value in line.split(",")] for line in lines]
    np.testing.assert_array_equal(read(source).pixels, np.array(expected, dtype))


@pytest.mark.parametrize(
    ("size", "shape"), [((2, 3), (2, 3)), ((1, 2), (1, 2, 3)), ((3, 2), (3, 2))]
)
def test_the_shape_is_that_of_the_size(tmp_path, size, shape):
    source = open_source(put(tmp_path, "1,2,3,4,5,6"), image_size=size)
    assert source.image_shape == shape
    assert read(source).pixels.tolist() == [[1, 2, 3, 4, 5, 6]]


def test_a_square_is_resized(tmp_path):
    path = put(tmp_path, *(",".join(["100"] * 16) for _ in range(3)))
    block = read(open_source(path, image_size=(2, 2), color="rgb"))
    assert block.pixels.tolist() == [[100] * 12] * 3


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_any_piece(tmp_path, monkeypatch, name):
    monkeypatch.setattr(csv, "STRIDE", 2)
    lines = [f"{i % 3},{i},{i},{i},{i}" for i in range(7)]
    source = open_source(put(tmp_path, HEADER, *lines, name=name))
    for start in range(7):
        for stop in range(start + 1, 8):
            (block,) = source.read(plan.Piece(0, start, stop))
            assert block.pixels[:, 0].tolist() == list(range(start, stop))
            assert block.labels.tolist() == [i % 3 for i in range(start, stop)]


def test_lines_that_are_no_image(tmp_path):
    lines = ["0,1,2,3,4", "1,1,2,3", "2,1,2,x,4", "0,1,,3,4", "1,1,2,3,4,5"]
    *found, block = open_source(put(tmp_path, HEADER, *lines)).read(plan.Piece(0, 0, 5))
    assert all(isinstance(row, Rejection) for row in found)
    assert [row.reason for row in found] == [
        "a line of 4 columns, which has not 4 pixels",
        "a line of no numbers, which has not 4 pixels",
        "a line of no numbers, which has not 4 pixels",
        "a line of 6 columns, which has not 4 pixels",
    ]
    assert block.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([""], {}, "0 images; nothing to cluster"),
        ([HEADER], {}, "0 images; nothing to cluster"),
        (["name,text", "a,b"], {}, "no columns of numbers; each line has a label and pixels"),
        ([HEADER, "0,1,2,3,4"], {"label_column": "kind"}, r"has no such column, only label, pix"),
        ([HEADER, "0,1,2,3,4"], {"image_column": "pixel0"}, "no numbers separated by spaces there"),
        (["a\0b"], {}, "not a CSV file; each line has a label and pixels"),
    ],
)
def test_files_that_are_no_images(tmp_path, lines, options, message):
    with pytest.raises(UserError, match=message):
        open_source(put(tmp_path, *lines), **options)


def test_files_of_several_lengths(tmp_path):
    put(tmp_path, "1,2,3,4", name="a.csv")
    put(tmp_path, "1,2,3,4,5,6,7,8,9", name="b.csv")
    with pytest.raises(UserError, match=r"lines of \[4, 9\] pixels; give files of one length"):
        open_source(str(tmp_path / "*.csv"))


def test_a_damaged_gzip_file(tmp_path):
    path = put(tmp_path, *["1,2,3,4"] * 100, name="set.csv.gz")
    (tmp_path / "set.csv.gz").write_bytes((tmp_path / "set.csv.gz").read_bytes()[:-12])
    with pytest.raises(UserError, match=r"set\.csv\.gz: damaged gzip file"):
        open_source(path)


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_in_a_bucket(tmp_path, bucket, name):
    put(tmp_path, HEADER, "7,1,2,3,4", "2,5,6,7,8", name=name)
    storage.write_bytes(f"{bucket}/{name}", (tmp_path / name).read_bytes())
    assert read(open_source(f"{bucket}/{name}")).labels.tolist() == [7, 2]

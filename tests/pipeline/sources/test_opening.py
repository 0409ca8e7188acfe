"""Values of `--input`, and the source that they open."""

import os
import subprocess
import sys

import pytest
import sets

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import Listed, open_source
from pipeline.sources.folders import FolderSource


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.npz", r"--input none\.npz: no such file, nor one of the named sets \(digits, "),
        ("mnst", "--input mnst: no such file, nor one of the named sets"),
        ("none-*.parquet", r"--input none-\*\.parquet: matches no file; check the pattern"),
        (__file__, r"test_opening\.py: not a format this version reads \(npz, npy, idx, CSV, TF"),
    ],
)
def test_input_that_is_nothing(spec, message):
    with pytest.raises(UserError, match=message):
        open_source(spec)


def test_inputs_of_several_kinds(tmp_path):
    images, labels = sets.digits(4)
    paths = [sets.write_npz(tmp_path, images, labels), sets.write_folder(tmp_path, images, labels)]
    with pytest.raises(UserError, match=r"of several kinds \(images, npz\); give one kind"):
        open_source(paths)


def test_a_named_set_beside_others():
    with pytest.raises(UserError, match=r"--input digits: a named set cannot be joined .* alone"):
        open_source(["digits", "mnist"])


def test_a_name_that_is_also_a_pattern(tmp_path):
    images, labels = sets.digits(4)
    (tmp_path / "a[1]").mkdir()
    assert open_source(sets.write_npz(tmp_path / "a[1]", images, labels)).num_images == 4


def test_a_folder_is_listed_by_workers(tmp_path):
    images, labels = sets.digits(4)
    source = open_source(sets.write_folder(tmp_path, images, labels))
    assert isinstance(source, FolderSource)
    assert isinstance(source, Listed)


@pytest.mark.parametrize("module", ["pipeline", "pipeline.shard", "pipeline.sources.folders"])
def test_imports_load_neither_tensorflow_nor_beam(module):
    code = f"import sys, {module}; print({{'tensorflow', 'apache_beam'}} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout == "set()\n"


def test_transforms_do_without_tensorflow():
    code = "import sys, pipeline.transforms; print('tensorflow' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout == "False\n"


def test_a_file_given_in_several_ways_is_read_once(tmp_path, caplog):
    images, labels = sets.digits(4)
    path = sets.write_npz(tmp_path, images, labels)
    (tmp_path / "link.npz").symlink_to("set.npz")
    os.link(path, tmp_path / "hard.npz")
    source = open_source([path, str(tmp_path / "s*.npz"), str(tmp_path / "*.npz")])
    assert source.num_images == 4
    assert "4 of 5 paths lead to files that others lead to as well" in caplog.text


def test_a_packed_file_beside_itself_is_read_once(tmp_path, caplog):
    images, labels = sets.digits(4)
    packed = sets.write_idx(tmp_path, images, labels)
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.write_bytes(sets.idx_bytes(images))
    assert open_source(str(tmp_path / "train-images*")).num_images == 4
    assert f"e.g. {packed}; each file is read once" in caplog.text


def test_a_folder_of_files_of_one_kind(tmp_path):
    images, labels = sets.digits(4)
    sets.write_npz(tmp_path, images, labels)
    assert open_source(str(tmp_path)).num_images == 4


def test_a_folder_of_idx_files_or_of_images(tmp_path):
    sets.write_idx(tmp_path, *sets.digits(4))
    assert not isinstance(open_source(str(tmp_path)), Listed)
    sets.write_folder(tmp_path, *sets.digits(5))
    source = open_source(str(tmp_path))
    assert isinstance(source, Listed)
    assert (source.num_images, source.num_skipped) == (5, 2)


@pytest.mark.parametrize("kind", ["folder", "idx"])
def test_no_column_can_be_named_where_there_are_none(tmp_path, kind):
    path = sets.FORMATS[kind](tmp_path, *sets.digits(4))
    for name in ("image_column", "label_column"):
        with pytest.raises(UserError, match=rf"--{name[:5]}-column x: .* has no columns; leave it"):
            open_source(path, **{name: "x"})


@pytest.mark.parametrize("kind", sets.FORMATS)
def test_labels_are_not_read_where_none_are_wanted(tmp_path, kind):
    source = open_source(sets.FORMATS[kind](tmp_path, *sets.digits(4)), label_column="none")
    assert source.label_names is None


def test_a_named_set_without_labels():
    source = open_source("digits", label_column="none")
    (block, *_) = source.read(plan.Piece(0, 0, 10))
    assert (source.label_names, block.labels) == (None, None)
    with pytest.raises(UserError, match=r"--image-column x: digits .a named set. has no columns"):
        open_source("digits", image_column="x")

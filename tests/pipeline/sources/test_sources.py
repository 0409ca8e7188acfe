"""What `--input` may say, and which source it opens."""

import subprocess
import sys

import numpy as np
import pytest
import sets

from pipeline.errors import UserError
from pipeline.sources import Listed, Request, open_source
from pipeline.sources import builtin as named
from pipeline.sources.decode import Converted
from pipeline.sources.folders import FolderSource


def test_digits():
    source = open_source("digits")
    assert (source.num_images, source.image_shape) == (1797, (8, 8))
    assert source.label_names == tuple("0123456789")
    assert not isinstance(source, Listed)


def test_digits_have_no_test_split():
    with pytest.raises(UserError, match="--split test: digits has only train"):
        open_source("digits", "test")


def test_set_that_cannot_be_downloaded(monkeypatch, tmp_path):
    pytest.importorskip("keras", reason="Keras is not installed")
    from keras import datasets

    def fail():
        raise OSError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(datasets.mnist, "load_data", fail)
    named._load.cache_clear()
    with pytest.raises(
        UserError, match=r"cannot download mnist\.npz, and it is not at .*--input P"
    ):
        open_source("mnist")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.npz", r"--input none\.npz: no such file, nor one of the named sets \(digits, "),
        ("mnst", "--input mnst: no such file, nor one of the named sets"),
        ("none-*.parquet", r"--input none-\*\.parquet: matches no file; check the pattern"),
        (__file__, r"test_inputs\.py: not a format this version reads \(npz, npy, idx, TFRec"),
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


def test_a_name_that_is_also_a_pattern(tmp_path):
    images, labels = sets.digits(4)
    (tmp_path / "a[1]").mkdir()
    assert open_source(sets.write_npz(tmp_path / "a[1]", images, labels)).num_images == 4


def test_what_the_manifest_says():
    assert Request(("a.npz",), "all").describe() == {"input": "a.npz", "split": "all"}
    assert Request(("a", "b"), "train", (8, 9), True).describe() == {
        "input": ["a", "b"],
        "split": "train",
        "image_size": [8, 9],
        "grayscale": True,
    }


def test_arrays_can_be_resized(tmp_path):
    images, labels = sets.digits(4)
    source = open_source(sets.write_npz(tmp_path, images, labels), image_size=(3, 10))
    assert isinstance(source, Converted)
    assert source.image_shape == (3, 10)


def test_floats_cannot_be_resized(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 4), np.float32))
    with pytest.raises(UserError, match="holds float32 of shape 4; only uint8 images can be conv"):
        open_source(str(tmp_path / "rows.npy"), image_size=(3, 10))


def test_rows_cannot_be_resized(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 4), np.uint8))
    with pytest.raises(UserError, match="holds pixels of shape 4, which is no image; only uint8"):
        open_source(str(tmp_path / "rows.npy"), grayscale=True)


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

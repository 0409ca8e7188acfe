"""Sets known by name: the digits of this package are scikit-learn's, and MNIST is Keras'."""

import hashlib

import numpy as np
import pytest
from sets import read
from sklearn.datasets import load_digits

from pipeline.errors import UserError
from pipeline.sources import Listed, builtin, open_source
from pipeline.sources.formats import NAMED_SETS


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
    builtin._load.cache_clear()
    with pytest.raises(
        UserError, match=r"cannot download mnist\.npz, and it is not at .*--input P"
    ):
        open_source("mnist")


def test_digits_are_those_of_scikit_learn():
    expected = load_digits()
    block = read(open_source("digits"))
    pixels = np.rint(expected.data * (255 / 16)).astype(np.uint8)
    np.testing.assert_array_equal(block.pixels, pixels)
    np.testing.assert_array_equal(block.labels, expected.target)
    assert (block.pixels.dtype, block.labels.dtype) == (np.uint8, np.int64)
    assert (block.ids[0], block.ids[-1], len(block.ids)) == ("train/00000", "train/01796", 1797)


def test_digits_never_change():
    """Results made from them are compared between versions: these bytes are what they mean."""
    block = read(open_source("digits"))
    assert hashlib.sha256(block.pixels.tobytes()).hexdigest() == (
        "b41ca9fd335466eee997366c2e6f6bbe0a1b4582afe091fc4eba35f4a254182f"
    )


@pytest.fixture
def keras_set(monkeypatch):
    """Lets Keras load two splits of 3 and 2 images, without a download."""
    pytest.importorskip("keras", reason="Keras is not installed")
    from keras import datasets

    parts = [
        (np.full((size, 2, 2), size, np.uint8), np.arange(size, dtype=np.uint8)) for size in (3, 2)
    ]
    monkeypatch.setattr(datasets.mnist, "load_data", lambda: parts)
    monkeypatch.setattr(datasets.fashion_mnist, "load_data", lambda: parts)
    builtin._load.cache_clear()
    yield
    builtin._load.cache_clear()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_splits_follow_each_other(keras_set, name):
    both, test = open_source(name, "all"), open_source(name, "test")
    assert (both.num_images, test.num_images) == (5, 2)
    assert read(both).ids == [*(f"train/0000{i}" for i in range(3)), "test/00000", "test/00001"]
    assert read(both).labels.tolist() == [0, 1, 2, 0, 1]
    assert read(test).pixels.tolist() == [[2] * 4] * 2


def test_names_of_labels(keras_set):
    assert open_source("mnist").label_names == ("0", "1", "2")
    assert open_source("fashion-mnist").label_names[:2] == ("T-shirt/top", "Trouser")


def test_every_named_set_has_a_loader():
    assert all(hasattr(builtin, where.partition(":")[2]) for where in NAMED_SETS.values())

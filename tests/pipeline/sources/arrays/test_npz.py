"""Names of arrays in .npz files: which are images, labels and splits."""

import numpy as np
import pytest
from sets import read

from pipeline.errors import UserError
from pipeline.sources import open_source

IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([2, 0, 1, 2])


def npz(folder, **arrays) -> str:
    np.savez(path := folder / "set.npz", **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("x_train", "y_train"),
        ("X_train", "Y_train"),
        ("train_images", "train_labels"),
        ("images", "labels"),
        ("data", "target"),
        ("x", "y"),
        ("arr_0", "arr_1"),
        ("embeddings", "label"),
        ("train", "label_train"),
    ],
)
def test_usual_names(tmp_path, images, labels):
    block = read(open_source(npz(tmp_path, **{labels: LABELS, images: IMAGES})))
    np.testing.assert_array_equal(block.pixels, IMAGES.reshape(4, 6))
    assert block.labels.tolist() == LABELS.tolist()
    assert block.ids[0] == "train/00000"


def test_the_only_array_that_may_be_images(tmp_path):
    path = npz(tmp_path, photos=IMAGES, labels=LABELS, names=np.array(["a"]))
    assert read(open_source(path)).labels.tolist() == LABELS.tolist()


def test_splits_of_medmnist(tmp_path):
    sizes = {"train": 4, "val": 2, "test": 3}
    images = {f"{split}_images": IMAGES[:size] for split, size in sizes.items()}
    labels = {f"{split}_labels": LABELS[:size, None] for split, size in sizes.items()}
    path = npz(tmp_path, **images, **labels)
    assert open_source(path).num_images == 4
    assert open_source(path, "test").num_images == 3
    everything = read(open_source(path, "all"))
    assert len(everything.ids) == 9
    assert {name.split("/")[0] for name in everything.ids} == {"train", "test", "validation"}


def test_a_choice_is_said(tmp_path, caplog):
    path = npz(tmp_path, images=IMAGES, fine_label=LABELS, label=LABELS[::-1].copy())
    assert read(open_source(path)).labels.tolist() == [2, 1, 0, 2]
    assert "label is read, not fine_label; --label-column chooses another" in caplog.text


def test_names_that_are_asked_for(tmp_path):
    path = npz(tmp_path, x=IMAGES, other=IMAGES + 1, y=LABELS, kind=LABELS[::-1].copy())
    block = read(open_source(path, image_column="other", label_column="kind"))
    np.testing.assert_array_equal(block.pixels, (IMAGES + 1).reshape(4, 6))
    assert block.labels.tolist() == [2, 1, 0, 2]
    assert open_source(path, label_column="none").label_names is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no array of images under a usual name .*, only a, b; name one with --image-column"),
        ({"image_column": "c"}, r"--image-column c: .*set\.npz has no such array, only a, b"),
        ({"image_column": "a", "label_column": "c"}, "--label-column c: .* has no such array"),
        ({"image_column": "a", "split": "test"}, "--split test: .* has no splits"),
    ],
)
def test_names_that_are_not_there(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        open_source(npz(tmp_path, a=IMAGES, b=IMAGES), **options)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(50, 4), (50, 4, 3), (50, 4, 3, 2)])
def test_fortrans_order(tmp_path, monkeypatch, save, shape):
    monkeypatch.setattr("pipeline.sources.arrays.array.COLUMN_BYTES", 500)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    save(tmp_path / "set.npz", x=np.asfortranarray(images))
    block = read(open_source(str(tmp_path / "set.npz")))
    np.testing.assert_array_equal(block.pixels, images.reshape(50, -1))

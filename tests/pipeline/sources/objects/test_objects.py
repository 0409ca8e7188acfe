"""Images that a Python caller holds: the same shards as of files, read in this process."""

import io
import pickle

import numpy as np
import pytest
import sets
from PIL import Image
from sklearn.datasets import load_digits

import kmeans_job
from kmeans_job import UserError
from pipeline.shards.block import read_shard
from pipeline.shards.manifest import load_manifest


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return np.rint(data.images[:120] * (255 / 16)).astype(np.uint8), data.target[:120]


def shard(images, folder, **options):
    """Shards of images, as {id: (label, pixels)}, and their manifest."""
    options = {"num_shards": 3, **options}
    manifest = kmeans_job.shard(images, folder, **options)
    return contents(folder), manifest


def contents(folder):
    manifest = load_manifest(str(folder))
    found = {}
    for entry in manifest.shards:
        for block in read_shard(str(folder), entry, manifest):
            labels = [-1] * len(block.ids) if block.labels is None else block.labels.tolist()
            for name, label, row in zip(block.ids, labels, block.pixels, strict=True):
                found[name] = label, row.tolist()
    return found


def same_files(one, other) -> bool:
    """Whether two folders have the same shards, byte for byte, and fingerprints."""
    (a, b) = (sets.contents(folder) for folder in (one, other))
    a.pop("manifest.json"), b.pop("manifest.json")
    return a == b and load_manifest(str(one)).fingerprint == load_manifest(str(other)).fingerprint


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int32", "bool"])
def test_an_array_makes_the_bytes_of_its_file(tmp_path, digits, dtype):
    images = digits[0].astype(dtype)
    np.save(tmp_path / "digits.npy", images)
    _, there = shard(tmp_path / "digits.npy", tmp_path / "file")
    _, here = shard(images, tmp_path / "array")
    assert same_files(tmp_path / "file", tmp_path / "array")
    assert here.image_shape == there.image_shape == (8, 8)
    assert here.dtype == there.dtype
    assert here.source == {"input": "ndarray 120 × 8 × 8", "split": "train"}


def test_a_pair_makes_the_bytes_of_its_files(tmp_path, digits):
    images, labels = digits
    np.save(tmp_path / "digits.npy", images)
    np.save(tmp_path / "digits_labels.npy", labels)
    shard(tmp_path / "digits.npy", tmp_path / "files")
    shard((images, labels), tmp_path / "arrays")
    assert same_files(tmp_path / "files", tmp_path / "arrays")
    _, named = shard((images, [f"d{label}" for label in labels]), tmp_path / "named")
    assert named.label_names == tuple(f"d{label}" for label in range(10))


def test_options_apply_to_arrays(tmp_path, digits):
    colour = np.repeat(digits[0][..., None], 3, axis=3)
    _, made = shard(colour, tmp_path / "out", image_size=(4, 4), grayscale=True)
    assert made.image_shape == (4, 4)
    _, made = shard(digits[0], tmp_path / "pca", transform="pca:5")
    assert made.image_shape == (5,)
    np.save(tmp_path / "digits.npy", digits[0])
    shard(tmp_path / "digits.npy", tmp_path / "file", transform="pca:5")
    assert same_files(tmp_path / "file", tmp_path / "pca")


def test_arrays_of_others(cpus, tmp_path, digits):
    import tensorflow as tf

    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    flat = digits[0].reshape(120, 64)
    expected, _ = shard(flat, tmp_path / "numpy")
    for number, other in enumerate((pandas.DataFrame(flat), tf.constant(flat), flat[::-1][::-1])):
        assert shard(other, tmp_path / str(number))[0] == expected
    labels = pandas.Series([f"d{label}" for label in digits[1]])
    _, made = shard((flat, labels), tmp_path / "named")
    assert made.label_names == tuple(f"d{label}" for label in range(10))


def png(image) -> bytes:
    Image.fromarray(image).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "form",
    [lambda image: image, png, Image.fromarray, lambda image: image.tolist()],
    ids=["array", "bytes", "Pillow", "list"],
)
def test_an_iterable_that_can_be_read_once(tmp_path, digits, form):
    images, labels = digits
    given = (
        (f"a/{n}", form(x), int(y)) for n, (x, y) in enumerate(zip(images, labels, strict=True))
    )
    found, made = shard(given, tmp_path / "out")
    assert found == {
        f"a/{n}": (y, x.ravel().tolist())
        for n, (x, y) in enumerate(zip(images, labels.tolist(), strict=True))
    }
    assert (made.image_shape, made.dtype) == ((8, 8), "uint8")
    assert made.source["input"] == "generator"


def test_an_iterable_of_vectors_and_names(tmp_path):
    given = [("x", [1, 2.5], "b"), (7, np.array([3, 4], np.uint8), None), (b"z", [5.0, 6.0], "a")]
    found, made = shard(given, tmp_path / "out", num_shards=1)
    assert found == {"x": (1, [1, 2.5]), "7": (-1, [3, 4]), "z": (0, [5, 6])}
    assert (made.dtype, made.label_names) == ("float32", ("a", "b"))
    found, made = shard(given, tmp_path / "bare", num_shards=1, label_column="none")
    assert made.label_names is None


def test_one_image_that_is_none_is_rejected(tmp_path, digits):
    given = [(str(n), None if n == 3 else image) for n, image in enumerate(digits[0])]
    found, made = shard(given, tmp_path / "out")
    assert (len(found), made.num_rejected) == (119, 1)
    assert "no image" in (tmp_path / "out" / "rejected.jsonl").read_text()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([("a", [1.0]), ("a", [2.0])], "list: id a is given twice; give each image its own"),
        ([np.zeros((8, 8))], r"list: item 0 is of type ndarray; give \(id, image\) or"),
        ([(1.5, [1.0])], "list: the id of item 0 is of type float; give text"),
        ([("a", "b.png")], "list: image a: of type str; give an array, or the bytes of"),
        ([("a", [300])], "list: image a: int64 values 300 … 300"),
        ([("a", [1.0], 0.5)], "list: image a: a label of 0.5"),
        ([("a", [[1.0]]), ("b", [[1.0, 2.0]])], "images of different shapes|1 × 2 values"),
        (iter([]), "0 images; nothing to cluster"),
        (np.zeros((0, 4)), "0 images or pixels"),
        (np.zeros(4), "an array of rank 1"),
        (np.array([[object()]]), "holds Python objects"),
        ((np.zeros((3, 4)), np.zeros(2)), "labels of shape"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, images, message):
    with pytest.raises(UserError, match=message):
        kmeans_job.shard(images, tmp_path / "out", max_rejected=0.0)


def test_options_that_do_not_fit_are_named(tmp_path):
    array = np.zeros((3, 4), np.uint8)
    for options, message in (
        ({"beam_options": ["--runner=X"]}, "beam_options: ndarray 3 × 4 is read in this process"),
        ({"split": "test"}, "--split test: ndarray 3 × 4 has no splits"),
        ({"image_column": "x"}, "image_column 'x': ndarray 3 × 4 has no columns"),
    ):
        with pytest.raises(UserError, match=message):
            kmeans_job.shard(array, tmp_path / "out", **options)
    for wrong in (None, 3, b"digits", {"a": 1}):
        with pytest.raises(TypeError, match=f"input of type {type(wrong).__name__}; give a path"):
            kmeans_job.shard(wrong, tmp_path / "out")


def test_a_dataset_of_hugging_face(tmp_path, digits):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    images, labels = digits
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[f"d{n}" for n in range(10)])
    )
    rows = {"image": [Image.fromarray(image) for image in images], "label": labels.tolist()}
    whole = datasets.Dataset.from_dict(rows, features)
    found, made = shard(whole, tmp_path / "whole")
    expected = {
        f"train/{n:05d}": (y, x.ravel().tolist())
        for n, (x, y) in enumerate(zip(images, labels.tolist(), strict=True))
    }
    assert found == expected
    assert made.label_names == tuple(f"d{n}" for n in range(10))
    assert made.source == {"input": "Dataset", "split": "train"}
    streamed, made = shard(whole.to_iterable_dataset(), tmp_path / "streamed")
    assert streamed == expected
    chosen = whole.select([5, 3, 8])
    found, _ = shard(chosen, tmp_path / "chosen", num_shards=1)
    assert [pixels for _, pixels in found.values()] == [
        images[n].ravel().tolist() for n in (5, 3, 8)
    ]
    both = datasets.DatasetDict(train=whole, test=chosen)
    found, _ = shard(both, tmp_path / "test", split="test", num_shards=1)
    assert [*found] == ["test/00000", "test/00001", "test/00002"]
    found, _ = shard(both, tmp_path / "all", split="all")
    assert len(found) == 123
    del both["test"]
    with pytest.raises(UserError, match="split 'test': DatasetDict has only train"):
        shard(both, tmp_path / "none", split="test")


def test_a_dataset_of_tensorflow(cpus, tmp_path, digits):
    import tensorflow as tf

    images, labels = digits
    expected, _ = shard(digits, tmp_path / "pair")
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    assert shard(data, tmp_path / "one")[0] == expected
    assert shard(data.batch(50), tmp_path / "batches")[0] == expected
    rows = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels})
    assert shard(rows, tmp_path / "rows")[0] == expected
    alone = tf.data.Dataset.from_tensor_slices(images)
    bare, _ = shard(images, tmp_path / "bare")
    assert shard(alone, tmp_path / "alone")[0] == bare
    assert shard(alone.batch(7), tmp_path / "alone-batches")[0] == bare


def test_a_read_image_is_not_kept_in_memory(tmp_path, digits, monkeypatch):
    """What comes one by one goes to disk: no list of all images is made."""
    held = []

    class Watched(np.ndarray):
        def __del__(self):
            held.remove(id(self))

    def given():
        for number, image in enumerate(digits[0]):
            array = image.view(Watched)
            held.append(id(array))
            yield str(number), array
            del array
            assert len(held) <= 3

    shard(given(), tmp_path / "out")


def test_a_manifest_of_an_object_is_read_again(tmp_path, digits):
    _, made = shard(digits[0], tmp_path / "out")
    assert load_manifest(str(tmp_path / "out")) == made == pickle.loads(pickle.dumps(made))

"""The registry of formats; in every format the same images give the same pixels and labels."""

import hashlib

import numpy as np
import pytest
import sets

from job.cli import main
from pipeline.sources import formats, open_source
from pipeline.sources.pictures import decode


@pytest.mark.parametrize("each", formats.FORMATS, ids=lambda each: each.name)
def test_what_the_registry_names_is_there(each):
    assert callable(formats.loaded(each.opens))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.npz", "npz"),
        ("x.npy", "npy"),
        ("t10k-images.idx3-ubyte", "idx"),
        ("train-labels-idx1-ubyte.gz", "idx"),
        ("x.tfrecord", "TFRecord"),
        ("x.tfrecords-00001-of-00009.gz", "TFRecord"),
        ("x.parquet", "Parquet"),
        ("x.pq", "Parquet"),
        ("x.NPY", "npy"),
        ("emnist-letters-train-images-idx3-ubyte.gz", "idx"),
        ("qmnist-train-labels-idx2-int.gz", "idx"),
        ("x.csv.GZ", "CSV"),
        ("mnist-train.tfrecord-00000-of-00001", "TFRecord"),
        ("x.tfrec", "TFRecord"),
        ("x.record", "TFRecord"),
        ("train-00000-of-01024", "TFRecord"),
        ("train-00000-of-00001.parquet", "Parquet"),
        ("data-00000-of-00001.arrow", "Arrow"),
        ("x-000000.tar", "archive"),
        ("x.tar.gz", "archive"),
        ("x.zip", "archive"),
        ("x.JPeG", "images"),
        ("x.webp", "images"),
    ],
)
def test_the_end_of_a_name_says_the_format(name, expected):
    assert formats.format_of(name).name == expected


def test_what_the_registry_says_in_words(monkeypatch):
    help_text = formats.input_help()
    assert help_text.startswith("digits, mnist, fashion-mnist, or paths or globs of one kind: .npz")
    assert all(each.summary in help_text for each in formats.FORMATS)
    monkeypatch.setattr(formats, "IMAGE_FORMATS", dict.fromkeys(["PNG", "JPEG", "WebP"]))
    assert formats.image_formats_text() == "PNG, JPEG or WebP"


@pytest.mark.parametrize("name", [name for name in formats.IMAGE_FORMATS if name != "HEIF"])
def test_every_image_format_is_found_and_decoded(tmp_path, name):
    flat = np.full((4, 3, 3), 90, np.uint8)
    for ending in formats.IMAGE_FORMATS[name]:
        (tmp_path / f"1.{ending}").write_bytes(sets.encoded(flat, name.upper()))
        (tmp_path / f"2.{ending.upper()}").write_bytes(sets.encoded(flat, name.upper()))
    source = open_source(str(tmp_path))
    assert source.num_images == 2 * len(formats.IMAGE_FORMATS[name])
    assert source.image_shape == (4, 3, 3)
    decoded = decode.decode(sets.encoded(flat, name.upper()), source.request)
    assert np.abs(decoded.astype(int) - 90).max() <= 2  # JPEG's loss


def shard(*arguments: str) -> int:
    return main(["shard", *arguments, "--quiet"])


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("kind", sets.FORMATS)
def test_pixels_and_labels_are_those_written(tmp_path, kind, num_shards):
    images, labels = sets.digits()
    spec = sets.FORMATS[kind](tmp_path, images, labels)
    out = tmp_path / "shards"
    assert shard("--input", spec, "--output", str(out), "--num-shards", str(num_shards)) == 0
    manifest, block = sets.read_set(out)
    assert len(manifest.shards) == num_shards
    assert manifest.image_shape == (6, 5)
    assert manifest.label_names == ("0", "1", "2")
    assert manifest.num_rejected == 0
    # Ids of a folder are its paths, sorted by label first.
    order = np.argsort(labels, kind="stable") if kind == "folder" else np.arange(len(images))
    np.testing.assert_array_equal(block.pixels, images[order].reshape(len(images), -1))
    np.testing.assert_array_equal(block.labels, labels[order])


@pytest.mark.parametrize("kind", ["TFRecord", "Parquet"])
def test_shards_are_the_same_however_many_files(tmp_path, kind):
    """Images keep their pixels wherever shards and files are cut."""
    images, labels = sets.digits(33)
    spec = sets.FORMATS[kind](tmp_path, images, labels)
    fingerprints = set()
    for num_shards in ("1", "2", "7", "33"):
        out = tmp_path / num_shards
        assert shard("--input", spec, "--output", str(out), "--num-shards", num_shards) == 0
        fingerprints.add(sets.read_set(out)[0].fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.slow
@pytest.mark.skipif(not sets.MNIST.exists(), reason=sets.NO_MNIST)
def test_all_of_mnist_in_every_format(tmp_path):
    with np.load(sets.MNIST) as mnist:
        images = np.concatenate([mnist["x_train"], mnist["x_test"]])
        labels = np.concatenate([mnist["y_train"], mnist["y_test"]])
    expected = digests(images.reshape(70_000, 784), labels)
    out = tmp_path / "shards"
    flags = ("--output", str(out), "--overwrite")
    assert shard("--input", str(sets.MNIST), "--split", "all", *flags) == 0
    assert digests(*read(out)) == expected
    for kind in ("idx", "folder", "TFRecord", "Parquet"):
        spec = sets.FORMATS[kind](tmp_path, images, labels)
        assert shard("--input", spec, *flags) == 0
        pixels, found = read(out)
        assert digests(pixels, found) == expected, kind
        if kind != "folder":  # whose order is another
            np.testing.assert_array_equal(pixels, images.reshape(70_000, 784))


def read(folder) -> tuple[np.ndarray, np.ndarray]:
    manifest, block = sets.read_set(folder)
    assert manifest.label_names == tuple("0123456789")
    return block.pixels, block.labels


def digests(pixels: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """A sorted digest of each (label, pixels)."""
    rows = zip(labels.tolist(), pixels, strict=True)
    return sorted(hashlib.blake2b(bytes([label]) + row.tobytes()).digest() for label, row in rows)

"""The command `assign`: the job's own answers, for any input, whole or not at all."""

import json
import os
import re
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow.parquet as pq
import pytest
import sets
from models import save_model
from sklearn.datasets import load_digits

from job.cli import main
from pipeline import storage
from pipeline.nearest import read_model
from pipeline.shards.assignments import SCHEMA


@pytest.fixture
def trained(tmp_path) -> Path:
    """A model of three clusters of images like those of `sets.digits`."""
    return save_model(tmp_path / "model", np.random.default_rng(3).random((3, 30)), (6, 5))


def assign(model, spec, output, *flags: str) -> int:
    options = ["--model", model, "--input", spec, "--output", output, "--quiet", *flags]
    return main(["assign", *map(str, options)])


def rows_of(folder: Path):
    return pq.read_table(folder / "assignments").sort_by("id")


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# The same bits.


def test_the_training_set_gets_its_own_assignments(cpus, tmp_path):
    fit = ["--k", "10", "--num-shards", "3", "--output", tmp_path / "fit", "--quiet"]
    assert main(["run", "--input", "digits", *map(str, fit)]) == 0
    flags = ["--num-shards", "2"]
    assert assign(tmp_path / "fit", "digits", tmp_path / "out", *flags) == 0
    rows = rows_of(tmp_path / "out")
    assert rows.schema == SCHEMA
    assert rows.equals(rows_of(tmp_path / "fit"))
    assert assign(tmp_path / "fit" / "model", "digits", tmp_path / "again", *flags) == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out")
    metrics = json.loads((tmp_path / "fit" / "metrics.json").read_text())
    assert manifest_of(tmp_path / "out")["cluster_sizes"] == metrics["cluster_sizes"]


def test_digits_that_were_held_back(cpus, tmp_path):
    """Brute force on images that the model has not seen."""
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images[:1500], x_test=images[1500:])
    fit = ["--k", "10", "--output", tmp_path / "fit", "--quiet"]
    assert main(["run", "--input", *map(str, [tmp_path / "set.npz", *fit])]) == 0
    flags = ["--split", "test"]
    assert assign(tmp_path / "fit", tmp_path / "set.npz", tmp_path / "out", *flags) == 0
    centroids = np.load(tmp_path / "fit" / "centroids.npy").astype(float)
    every = np.square(images[1500:].reshape(-1, 1, 64) / 255 - centroids).sum(axis=2)
    clusters = rows_of(tmp_path / "out")["cluster"].to_numpy()
    own = every[np.arange(len(every)), clusters]
    assert (own <= every.min(axis=1) + 1e-11).all()  # but for ties


@pytest.mark.parametrize("kind", sets.FORMATS)
def test_every_format(tmp_path, trained, kind):
    images, labels = sets.digits(40)
    spec = sets.FORMATS[kind](tmp_path, images, labels)
    assert assign(trained, spec, tmp_path / "out", "--num-shards", "3") == 0
    rows = rows_of(tmp_path / "out").to_pydict()
    centroids = np.load(trained / "centroids.npy")
    every = np.linalg.norm(images.reshape(40, 1, 30) / 255 - centroids, axis=2)
    found = sorted(zip(rows["label"], rows["cluster"], rows["distance"], strict=True))
    expected = sorted(zip(labels, every.argmin(axis=1), every.min(axis=1), strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert rows["label_name"] == [str(label) for label in rows["label"]]


def test_a_grey_image_among_those_of_a_model_of_photos(tmp_path):
    """Alone it would be a grey set; here it is one more photo."""
    model = save_model(tmp_path / "model", np.random.default_rng(3).random((3, 90)), (6, 5, 3))
    spec = sets.write_folder(tmp_path, *sets.digits(2))
    assert assign(model, spec, tmp_path / "out") == 0
    assert manifest_of(tmp_path / "out")["num_images"] == 2


def test_images_without_labels(tmp_path, trained):
    np.save(tmp_path / "images.npy", sets.digits(9)[0])
    assert assign(trained, tmp_path / "images.npy", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert rows.schema == SCHEMA
    assert rows["label"].null_count == rows["label_name"].null_count == len(rows) == 9
    assert manifest_of(tmp_path / "out")["label_names"] is None


# What it leaves.


def test_the_manifest(tmp_path, trained):
    spec = sets.write_npz(tmp_path, *sets.digits(40))
    assert assign(trained, spec, tmp_path / "out", "--num-shards", "3") == 0
    manifest = manifest_of(tmp_path / "out")
    for entry in manifest.pop("files"):
        data = (tmp_path / "out" / "assignments" / entry["file"]).read_bytes()
        crc = f"{google_crc32c.value(data):08x}"
        rows = pq.read_metadata(tmp_path / "out" / "assignments" / entry["file"]).num_rows
        assert (entry["num_bytes"], entry["crc32c"]) == (len(data), crc)
        assert entry["num_images"] == rows
    clusters = rows_of(tmp_path / "out")["cluster"].to_numpy()
    assert manifest == {
        "model": {"folder": str(trained), "fingerprint": read_model(str(trained)).fingerprint()},
        "num_images": 40,
        "num_clusters": 3,
        "cluster_sizes": np.bincount(clusters, minlength=3).tolist(),
        "label_names": ["0", "1", "2"],
        "num_rejected": 0,
        "num_skipped": 0,
        "source": {"input": spec, "split": "train"},
        "format_version": 1,
    }


def test_rejected_images(tmp_path, trained, capsys):
    spec = sets.write_folder(tmp_path, *sets.digits(120))
    (tmp_path / "folder" / "0" / "broken.png").write_bytes(b"")
    assert assign(trained, spec, tmp_path / "out", "--num-shards", "2") == 0
    assert "1 of 121 images could not be read: see " in capsys.readouterr().err
    assert sets.rejections(tmp_path / "out") == {"0/broken.png": "empty file"}
    assert len(rows_of(tmp_path / "out")) == 120
    assert manifest_of(tmp_path / "out")["num_rejected"] == 1
    flags = ["--overwrite", "--max-rejected", "0"]
    assert assign(trained, spec, tmp_path / "out", *flags) == 2
    assert "1 of 121 images cannot be read, more than the 0 % allowed" in capsys.readouterr().err
    assert "manifest.json" not in files_of(tmp_path / "out")


def test_the_next_run_cleans_up(tmp_path, trained):
    assert assign(trained, "digits", tmp_path / "out", "--image-size", "6x5") == 0
    expected = files_of(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    for name in (
        "assignments/assignments-00004-of-00009.parquet",
        f"assignments/assignments-00001-of-00009.parquet.01ab{storage.TEMPORARY_SUFFIX}",
        "rejected-00001-of-00009.jsonl",
        f"manifest.json.01ab{storage.TEMPORARY_SUFFIX}",
    ):
        (tmp_path / "out" / name).write_bytes(b"half")
    assert assign(trained, "digits", tmp_path / "out", "--image-size", "6x5") == 0
    assert files_of(tmp_path / "out") == expected


# What it refuses.


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a command that must end with 2, one line on stderr and no manifest; that line."""

    def check(*arguments, **options) -> str:
        before = files_of(tmp_path)
        assert assign(*arguments, **options) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert files_of(tmp_path) == before
        return error

    return check


@pytest.mark.parametrize(
    ("shape", "dtype", "flags", "message"),
    [
        (
            (4, 7, 5),
            "uint8",
            [],
            "7 × 5 uint8, but --model {} was fitted to images of 6 × 5",
        ),
        ((4, 7, 5), "uint8", [], "or make them so: --image-size 6x5\n"),
        ((4, 6, 5, 3), "uint8", [], "images of 6 × 5 × 3 uint8, .*--image-size 6x5 --grayscale\n"),
        ((4, 30), "uint8", [], "images of 30 uint8, but"),
        ((4, 6, 5), "float32", [], "images of 6 × 5 float32, .* of 6 × 5 uint8; give images like"),
        ((4, 6, 5), "uint8", ["--num-shards", "9"], "--num-shards 9: more than the 4 images"),
        ((4, 6, 5), "uint8", ["--split", "test"], "--split test: "),
        ((4, 6, 5), "uint8", ["--modle"], "unknown option --modle: did you mean --model?"),
    ],
)
def test_images_and_options(refused, tmp_path, trained, shape, dtype, flags, message):
    np.save(tmp_path / "images.npy", np.zeros(shape, dtype))
    error = refused(trained, tmp_path / "images.npy", tmp_path / "out", *flags)
    assert re.search(message.replace("?", r"\?").format(trained), error)


def test_a_model_that_is_none(refused, tmp_path, trained):
    error = refused(tmp_path / "nowhere", "digits", tmp_path / "out")
    assert f"--model {tmp_path}/nowhere: not a finished result" in error
    (trained / "metrics.json").write_text("half")
    assert "metrics.json: damaged" in refused(trained, "digits", tmp_path / "out")
    (trained / "metrics.json").write_text("{}")
    assert "metrics.json: damaged ('image_shape')" in refused(trained, "digits", tmp_path / "out")


def test_centroids_that_do_not_go_with_the_metrics(refused, tmp_path, trained):
    np.save(trained / "centroids.npy", np.zeros((3, 29), np.float32))
    error = refused(trained, "digits", tmp_path / "out")
    assert "centroids.npy: damaged (shape (3, 29)); run `kmeans-job fit` again" in error
    (trained / "centroids.npy").write_bytes(b"")
    assert "centroids.npy: damaged" in refused(trained, "digits", tmp_path / "out")


def test_an_output_that_is_complete(refused, tmp_path, trained):
    spec = sets.write_npz(tmp_path, *sets.digits(40))
    assert assign(trained, spec, tmp_path / "out") == 0
    assert "holds complete assignments; use them, or add --overwrite" in refused(
        trained, spec, tmp_path / "out"
    )
    assert assign(trained, spec, tmp_path / "out", "--overwrite", "--num-shards", "2") == 0
    assert len(manifest_of(tmp_path / "out")["files"]) == 2
    assert len(rows_of(tmp_path / "out")) == 40


@pytest.mark.parametrize("name", ["thesis.tex", "assignments/thesis.tex", "history.jsonl"])
def test_an_output_that_holds_something_else(refused, tmp_path, trained, name):
    spec = sets.write_npz(tmp_path, *sets.digits(40))
    (tmp_path / "out" / "assignments").mkdir(parents=True)
    (tmp_path / "out" / name).write_text("years")
    error = refused(trained, spec, tmp_path / "out", "--overwrite")
    assert f"holds something else ({os.path.basename(name)}); give a new or empty" in error


def test_an_output_that_another_job_writes_to(refused, tmp_path, trained, monkeypatch):
    monkeypatch.setattr(storage.local, "LOCK_SECONDS", 0.0)
    spec = sets.write_npz(tmp_path, *sets.digits(40))
    with storage.locked(str(tmp_path / "out")):
        error = refused(trained, spec, tmp_path / "out", "--overwrite")
    assert "out: another kmeans-job is writing there; wait until it has ended, or" in error


def test_an_output_that_is_a_file(refused, tmp_path, trained):
    spec = sets.write_npz(tmp_path, *sets.digits(40))
    (tmp_path / "out").write_text("years")
    assert "out: a file; give a folder" in refused(trained, spec, tmp_path / "out")


# MNIST.


@pytest.mark.slow
def test_mnist(cpus, mnist, tmp_path):
    fit = ["--k", "10", "--output", tmp_path / "fit", "--num-shards", "3", "--quiet"]
    assert main(["run", "--input", *map(str, [mnist, *fit])]) == 0
    assert assign(tmp_path / "fit", mnist, tmp_path / "train", "--num-shards", "4") == 0
    assert rows_of(tmp_path / "train").equals(rows_of(tmp_path / "fit"))
    assert assign(tmp_path / "fit", mnist, tmp_path / "test", "--split", "test") == 0
    rows, centroids = rows_of(tmp_path / "test"), np.load(tmp_path / "fit" / "centroids.npy")
    with np.load(mnist) as file:
        images = file["x_test"].reshape(10_000, 784) / 255
        np.testing.assert_array_equal(rows["label"].to_numpy(), file["y_test"])
    every = np.stack([np.square(images - c).sum(axis=1) for c in centroids.astype(float)], axis=1)
    clusters = rows["cluster"].to_numpy()
    own = every[np.arange(10_000), clusters]
    assert (own <= every.min(axis=1) + 1e-11).all()  # but for ties
    np.testing.assert_allclose(rows["distance"].to_numpy(), np.sqrt(own), rtol=1e-6)

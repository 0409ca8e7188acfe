"""`--transform` from images to a report: vectors in shards, their basis beside them and after."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sets
from report_page import page_of
from sklearn.metrics import adjusted_rand_score

from job.cli import main
from pipeline import storage
from pipeline.errors import UserError
from pipeline.features.pca import Pca
from pipeline.features.source import Transformed, is_same_transform, load, transformed_again
from pipeline.shards.block import Block, Fingerprint
from pipeline.shards.manifest import MANIFEST, load_manifest
from pipeline.shards.plan import pieces
from pipeline.sources import open_source

ROOT = Path(__file__).resolve().parents[3]


def shard(spec, folder, *flags) -> int:
    arguments = ["--input", str(spec), "--output", str(folder), "--quiet", *map(str, flags)]
    return main(["shard", *arguments])


@pytest.fixture
def spec(tmp_path) -> str:
    """A folder of PNG files in three classes, one of them broken."""
    path = sets.write_folder(tmp_path, *sets.digits(120))
    (tmp_path / "folder" / "0" / "broken.png").write_bytes(b"")
    return path


@pytest.fixture(scope="module")
def model(cpus, new_folder) -> str:
    """A saved model that makes three numbers of a 6 × 5 or an 8 × 8 image."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([keras.Input((None, None, 1)), *layers]).save(
        path := str(new_folder() / "model.keras")
    )
    return path


def test_vectors_in_shards(tmp_path, spec):
    assert shard(spec, tmp_path / "images") == 0
    assert shard(spec, tmp_path / "vectors", "--transform", "pca:7", "--num-shards", 3) == 0
    _, images = sets.read_set(tmp_path / "images")
    manifest, vectors = sets.read_set(tmp_path / "vectors")
    assert (manifest.image_shape, manifest.num_features, manifest.dtype) == ((7,), 7, "float32")
    assert (manifest.num_images, manifest.num_rejected) == (120, 1)
    assert vectors.ids == images.ids
    assert vectors.labels.tolist() == images.labels.tolist()
    about = manifest.transform
    assert (about.spec, about.file, about.image_shape) == ("pca:7", "transform.npz", (6, 5))
    transform = load(str(tmp_path / "vectors"), about)
    assert transform.apply(images.pixels).tobytes() == vectors.pixels.tobytes()
    np.testing.assert_allclose(vectors.pixels.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_the_same_set_however_it_is_sharded(tmp_path, kind):
    path = sets.FORMATS[kind](tmp_path, *sets.digits(90))
    for count in (1, 4):
        assert (
            shard(path, tmp_path / str(count), "--transform", "pca:5", "--num-shards", count) == 0
        )
    (one, images), (four, again) = (sets.read_set(tmp_path / str(count)) for count in (1, 4))
    assert images.pixels.tobytes() == again.pixels.tobytes()
    assert (one.fingerprint, one.transform) == (four.fingerprint, four.transform)


def test_on_two_processes(tmp_path, spec):
    processes = ("--direct_num_workers", "2", "--direct_running_mode", "multi_processing")
    flags = ("--transform", "pca:4", "--num-shards", 3)
    assert shard(spec, tmp_path / "one", *flags) == 0
    assert shard(spec, tmp_path / "two", *flags, *processes) == 0
    assert sets.contents(tmp_path / "two") == sets.contents(tmp_path / "one")


def test_float_vectors_become_fewer(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    assert shard(tmp_path / "rows.npy", tmp_path / "out", "--transform", "pca:8") == 0
    manifest, block = sets.read_set(tmp_path / "out")
    assert manifest.transform.dtype == "float32"
    transform = load(str(tmp_path / "out"), manifest.transform)
    np.testing.assert_allclose(transform.invert(block.pixels), rows, atol=1e-5)


def test_a_set_of_images_says_nothing_of_a_transform(tmp_path, spec):
    assert shard(spec, tmp_path / "out") == 0
    assert "transform" not in json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert load_manifest(str(tmp_path / "out")).transform is None


def test_embeddings_through_run_inference(tmp_path, spec, model):
    assert shard(spec, tmp_path / "images") == 0
    flags = ("--transform", f"keras:{model}", "--num-shards", 3)
    assert shard(spec, tmp_path / "vectors", *flags) == 0
    _, images = sets.read_set(tmp_path / "images")
    manifest, vectors = sets.read_set(tmp_path / "vectors")
    assert (manifest.image_shape, manifest.num_rejected) == ((3,), 1)
    assert (tmp_path / "vectors" / "transform.keras").read_bytes() == Path(model).read_bytes()
    expected = load(str(tmp_path / "vectors"), manifest.transform).apply(images.pixels)
    np.testing.assert_allclose(vectors.pixels, expected, rtol=1e-5)
    assert (vectors.ids, len(np.unique(vectors.pixels, axis=0))) == (images.ids, 120)


@pytest.mark.slow
def test_embeddings_in_processes_of_beam(tmp_path, spec, model):
    command = ["-m", "pipeline", "--input", spec, "--output", str(tmp_path / "out"), "--quiet"]
    flags = ["--transform", f"keras:{model}", "--num-shards", "2", "--direct_num_workers", "2"]
    flags += ["--direct_running_mode", "multi_processing"]
    run = subprocess.run(
        [sys.executable, *command, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert sets.read_set(tmp_path / "out")[1].pixels.shape == (120, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("pca:0", "'pca:0': at least one component is needed"),
        ("pca:31", "--transform pca:31: more components than the 30 pixels of an image"),
        ("pca:x", "'pca:x' is neither pca:N nor "),
        ("pca:-1", "'pca:-1' is neither pca:N nor "),
        ("umap:3", "'umap:3' is neither pca:N nor "),
        ("keras:", "'keras:' is neither pca:N nor "),
        ("keras:nowhere.keras", "--transform keras:nowhere.keras: no such file"),
    ],
)
def test_transforms_that_are_wrong(tmp_path, spec, capsys, value, message):
    assert shard(spec, tmp_path / "out", "--transform", value) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_too_large_for_components(tmp_path, capsys):
    np.save(tmp_path / "large.npy", np.zeros((3, 91, 91), np.uint8))
    assert shard(tmp_path / "large.npy", tmp_path / "out", "--transform", "pca:2") == 2
    message = "images of 8,281 pixels, but pca takes at most 8,192; add --image-size or --grayscale"
    assert message in capsys.readouterr().err


def test_a_model_that_makes_no_number(tmp_path, spec, capsys, cpus):
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Rescaling(1e38), keras.layers.Rescaling(1e38)]
    keras.Sequential([keras.Input((6, 5)), *layers]).save(path := tmp_path / "inf.keras")
    assert shard(spec, tmp_path / "out", "--transform", f"keras:{path}") == 2
    error = capsys.readouterr().err
    assert re.search(r"inf\.keras: makes inf of image \d/\d{5}\.png; mend the model, or ", error)
    assert MANIFEST not in sets.contents(tmp_path / "out")


@pytest.fixture(scope="module")
def seven(new_folder) -> Path:
    """Digits as seven components."""
    folder = new_folder() / "seven"
    assert shard("digits", folder, "--transform", "pca:7") == 0
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name, data in sets.contents(folder).items():
        (target / name).write_bytes(data)
    return target


def test_a_missing_or_altered_basis_is_named(tmp_path, seven):
    folder = copy_of(seven, tmp_path / "copy")
    manifest, path = load_manifest(str(folder)), folder / "transform.npz"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"transform\.npz: truncated or altered: "):
        load_manifest(str(folder))
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(UserError, match=r"transform\.npz: altered since it was written; shard "):
        load(str(folder), manifest.transform)
    path.unlink()
    with pytest.raises(UserError, match=r"transform\.npz: this file is missing; shard the set"):
        load_manifest(str(folder))


def test_an_extra_basis_is_named(tmp_path, spec):
    assert shard(spec, tmp_path / "out") == 0
    (tmp_path / "out" / "transform.npz").write_bytes(b"of another set")
    with pytest.raises(UserError, match=r"transform\.npz: not in the manifest; remove it or "):
        load_manifest(str(tmp_path / "out"))
    assert shard(spec, tmp_path / "out", "--overwrite") == 0


def test_the_fingerprint_covers_the_basis(seven):
    manifest = load_manifest(str(seven))
    other = dataclasses.replace(manifest.transform, crc32c="00000000")
    prints = [Fingerprint(), Fingerprint(), Fingerprint()]
    prints[1].add_transform(manifest.transform)
    prints[2].add_transform(other)
    assert len({each.hex() for each in prints}) == 3


def test_the_same_vectors_of_other_images(seven, tmp_path):
    about = load_manifest(str(seven)).transform
    images, _ = sets.digits(5)
    digits = np.random.default_rng(1).integers(0, 256, (9, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "digits.npy", digits)
    np.save(tmp_path / "others.npy", images)
    source = transformed_again(open_source(str(tmp_path / "digits.npy")), str(seven), about)
    for ready in (source, source.loaded()):
        (block,) = ready.read(pieces(9, 1)[0])
        assert isinstance(block, Block)
        expected = load(str(seven), about).apply(digits.reshape(9, 64))
        assert block.pixels.tobytes() == expected.tobytes()
    with pytest.raises(
        UserError, match=r"others\.npy: uint8 images of 6 × 5, but .*transform\.npz is"
    ):
        transformed_again(open_source(str(tmp_path / "others.npy")), str(seven), about)


def test_blocks_of_long_vectors_stay_small(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((3000, 1, 1), np.uint8))

    class Repeated:
        batch = None

        def apply(self, pixels):
            return np.repeat(pixels, 4096, axis=1).astype(np.float32)

    source = open_source(str(tmp_path / "one.npy"))
    seen = Transformed(source, "keras:model.keras", "nowhere", 4096, Repeated())
    blocks = list(seen.read(pieces(3000, 1)[0]))
    assert max(block.pixels.nbytes for block in blocks) <= 1 << 20
    assert sum(len(block.ids) for block in blocks) == 3000


def test_whether_a_transform_is_another(seven):
    about = load_manifest(str(seven)).transform
    assert is_same_transform(None, None)
    assert is_same_transform("pca:7", about)
    assert not is_same_transform("pca:8", about)
    assert not is_same_transform(None, about)
    assert not is_same_transform("pca:7", None)


def test_run_twice_and_with_another_transform(tmp_path, capsys):
    out = str(tmp_path / "out")
    command = ["run", "--input", "digits", "--output", out, "--k", "10", "--quiet"]
    command += ["--algorithm", "lloyd", "--max-iterations", "3", "--transform"]
    assert main([*command, "pca:7"]) == 0
    storage.remove(storage.join(out, "metrics.json"))
    assert main([*command, "pca:7"]) == 0
    storage.remove(storage.join(out, "metrics.json"))
    assert main([*command, "pca:8"]) == 2
    assert "shards of another input" in capsys.readouterr().err


# Results.


@pytest.fixture(scope="module")
def raw(new_folder) -> str:
    folder = new_folder() / "raw"
    assert shard("digits", folder) == 0
    return str(folder)


def test_all_components_make_the_clusters_of_pixels(fit, raw, new_folder):
    """Distances differ by their rounding: so may images between two centroids, and few do."""
    folder = new_folder() / "all"
    assert shard("digits", folder, "--transform", "pca:64") == 0
    pixels, vectors = (fit(each, 10) for each in (raw, str(folder)))
    assert vectors.metrics["inertia"] == pytest.approx(pixels.metrics["inertia"], rel=1e-6)
    assert (pixels.clusters != vectors.clusters).sum() <= 2
    np.testing.assert_allclose(pixels.distances, vectors.distances, rtol=1e-3)
    assert pixels.rows["id"].to_pylist() == vectors.rows["id"].to_pylist()


@pytest.fixture(scope="module")
def reduced(fit, seven):
    """A result of digits as seven components."""
    return fit(str(seven), 10, saved_model=True)


def test_centroids_become_pictures_again(reduced, seven):
    result = reduced
    assert result.centroids.shape == (10, 7)
    about = result.metrics["transform"]
    assert (about["spec"], about["image_shape"]) == ("pca:7", [8, 8])
    names = {path.name: path.read_bytes() for path in result.folder.iterdir() if path.is_file()}
    assert names["transform.npz"] == (seven / "transform.npz").read_bytes()
    page = page_of(result.folder)
    share = Pca.from_bytes(names["transform.npz"]).variance_share
    assert (
        "K-means saw the first 7 principal components of these 8 × 8 images, which keep "
        f"{100 * share:.0f} % of their variance."
    ) in page.text
    assert len(page.all("img", "centroid")) == 30
    assert len(page.all("img", "member")) == 350


@pytest.fixture(scope="module")
def embedded(fit, new_folder, model):
    """A result of digits that a model has embedded."""
    folder = new_folder() / "k"
    assert shard("digits", folder, "--transform", f"keras:{model}") == 0
    return fit(str(folder), 10)


def test_embeddings_are_reported_in_words(embedded, model):
    result = embedded
    assert (result.folder / "transform.keras").read_bytes() == Path(model).read_bytes()
    page = page_of(result.folder)
    assert "K-means saw the 3 numbers that keras:" in page.text
    assert "No picture belongs to a centroid: the images nearest to it stand for it" in page.text
    assert not page.all("svg", "centroid")
    assert len(page.all("img", "member")) == 350


@pytest.mark.parametrize("name", ["reduced", "embedded"])
def test_new_images_are_transformed_as_those_of_the_fit_were(name, tmp_path, request):
    result = request.getfixturevalue(name)
    command = ["assign", "--model", str(result.folder), "--quiet", "--input"]
    assert main([*command, "digits", "--output", str(tmp_path / "out")]) == 0
    rows = pq.read_table(tmp_path / "out" / "assignments").sort_by("id")
    assert rows["id"].to_pylist() == result.rows["id"].to_pylist()
    np.testing.assert_array_equal(rows["cluster"].to_numpy(), result.clusters)
    np.testing.assert_allclose(rows["distance"].to_numpy(), result.distances, rtol=1e-4, atol=1e-6)


def test_new_images_of_another_shape(reduced, spec, tmp_path, capsys):
    command = ["assign", "--model", str(reduced.folder), "--quiet", "--input", spec]
    assert main([*command, "--output", str(tmp_path / "out")]) == 2
    assert "uint8 images of 6 × 5, but " in capsys.readouterr().err


def test_the_saved_model_takes_vectors(reduced, seven):
    import tensorflow as tf

    _, block = sets.read_set(seven)
    answer = tf.saved_model.load(str(reduced.folder / "model")).signatures["serving_default"]
    found = answer(images=tf.constant(block.pixels))
    np.testing.assert_array_equal(found["cluster"].numpy(), reduced.clusters)


@pytest.mark.slow
def test_all_components_of_mnist(fit, mnist, new_folder):
    folders = [new_folder() / name for name in ("pixels", "vectors")]
    assert shard(mnist, folders[0]) == 0
    assert shard(mnist, folders[1], "--transform", "pca:784") == 0
    pixels, vectors = (fit(str(folder), 10, algorithm="auto") for folder in folders)
    assert vectors.metrics["inertia"] == pytest.approx(pixels.metrics["inertia"], rel=1e-6)
    assert adjusted_rand_score(pixels.clusters, vectors.clusters) > 0.999

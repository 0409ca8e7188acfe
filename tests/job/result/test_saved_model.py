"""The SavedModel answers with the bits of the published assignments, whoever asks."""

import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
import shard_set
import tensorflow as tf

from job.result.saved_model import build_model
from pipeline import storage

KINDS = {
    # image shape, dtype, k; rows of 30 and 27 bytes do not fill whole words
    "gray": ((6, 5), "uint8", 4),
    "one cluster": ((6, 5), "uint8", 1),
    "colour": ((3, 3, 3), "uint8", 5),
    "floats": ((30,), "float32", 3),
}
# What one writes who has TensorFlow and nothing else.
STRANGER = """
import sys, numpy as np, tensorflow as tf
images, answers, folder = np.load(sys.argv[1]), sys.argv[2], sys.argv[3]
found = tf.saved_model.load(folder).signatures["serving_default"](images=tf.constant(images))
np.savez(answers, **{name: value.numpy() for name, value in found.items()})
assert not {"job", "pipeline", "apache_beam"} & sys.modules.keys()
"""


def images_of(shape: tuple[int, ...], dtype: str, count: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(dtype)


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, fit, make_shards):
    """Images [n, …] and what a fit of them published."""
    shape, dtype, k = KINDS[request.param]
    images = images_of(shape, dtype)
    return images, fit(make_shards(images, num_shards=2), k, saved_model=True)


def load(folder):
    return tf.saved_model.load(str(folder / "model")).signatures


def ask(signature, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name in ("cluster", "distance", "distances"):
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])


def test_the_published_assignments(fitted):
    images, result = fitted
    found = ask(load(result.folder)["serving_default"], images)
    assert (found["cluster"].dtype, found["distance"].dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(found["cluster"], result.clusters)
    np.testing.assert_array_equal(found["distance"], result.distances)
    scale = 255 if images.dtype == np.uint8 else 1
    rows = images.reshape(len(images), 1, -1) / scale
    expected = np.linalg.norm(rows - result.centroids, axis=2)
    np.testing.assert_allclose(found["distances"], expected, rtol=1e-6)
    own = found["distances"][np.arange(len(images)), found["cluster"]]
    np.testing.assert_array_equal(own, found["distance"])


def test_any_batch(fitted):
    images, result = fitted
    many = np.concatenate([images] * 167)[:10_000]
    answer = load(result.folder)["serving_default"]
    expected = ask(answer, many)
    single = [ask(answer, image[None]) for image in images]
    together = {name: np.concatenate([each[name] for each in single]) for name in single[0]}
    check_same(together, {name: values[: len(images)] for name, values in expected.items()})
    assert ask(answer, images[:0])["distances"].shape == (0, len(result.centroids))


@pytest.mark.parametrize("fitted", ["colour", "floats"], indirect=True)
def test_a_process_with_nothing_but_tensorflow(fitted, tmp_path):
    images, result = fitted
    np.save(tmp_path / "images.npy", images)
    arguments = [tmp_path / "images.npy", tmp_path / "answers.npz", result.folder / "model"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", STRANGER, *map(str, arguments)]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=300)
    with np.load(tmp_path / "answers.npz") as answers:
        np.testing.assert_array_equal(answers["cluster"], result.clusters)
        np.testing.assert_array_equal(answers["distance"], result.distances)


def test_keras(fitted):
    import keras

    images, result = fitted
    layer = keras.layers.TFSMLayer(str(result.folder / "model"), "serving_default")
    np.testing.assert_array_equal(layer(tf.constant(images))["cluster"], result.clusters)


def test_shapes_that_are_wrong(fitted):
    images, result = fitted
    answer = load(result.folder)["serving_default"]
    shape = ",".join(map(str, images.shape[1:]))
    for wrong in (images[:, :-1], images[0], images[..., None], images.reshape(60, -1, 1)):
        given = ",".join(map(str, wrong.shape))
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            ask(answer, wrong)
        assert f"Shape of tensor images [{given}] is not compatible with" in str(error.value)
        assert f"expected shape [?,{shape}]" in str(error.value)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected to be a .* but is a"):
        ask(answer, images.astype(np.int32))


def test_ties_go_to_the_lowest_cluster():
    """Few levels of few pixels: most images are as near to one centroid as to another."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (500, 3, 1)).astype(np.uint8)
    centroids = (rng.integers(0, 5, (6, 3)) / 512).astype(np.float32)
    centroids[4] = centroids[1]
    _, signatures = build_model(centroids, (3, 1), "uint8")
    found = ask(signatures["serving_default"], images)
    fraction = 2**33
    expected = oracle.nearest(images.reshape(500, 3), centroids.astype(np.float64), fraction)
    np.testing.assert_array_equal(found["cluster"], expected)
    assert not (found["cluster"] == 4).any()


# Images in 0 … 1.


@pytest.fixture(scope="module")
def bytes_model():
    """Images of all 256 levels, with the answer to them, and the signature `scaled`."""
    images = images_of((6, 5), "uint8", 300)
    images[:9] = np.resize(np.arange(256, dtype=np.uint8), (9, 6, 5))
    centroids = np.random.default_rng(1).random((7, 30)).astype(np.float32)
    module, signatures = build_model(centroids, (6, 5), "uint8")
    return images, ask(signatures["serving_default"], images), (module, signatures["scaled"])


@pytest.mark.parametrize(
    "scale",
    [
        lambda images: images.astype(np.float32) / np.float32(255),
        lambda images: images.astype(np.float32) * np.float32(1 / 255),
        lambda images: (images / 255).astype(np.float32),
        lambda images: tf.image.convert_image_dtype(images, tf.float32).numpy(),
    ],
    ids=["divided", "multiplied", "in float64", "by TensorFlow"],
)
def test_scaled_pixels_are_the_pixels(bytes_model, scale):
    images, expected, (_, scaled) = bytes_model
    check_same(ask(scaled, scale(images)), expected)


def test_what_lies_between_two_pixels_stays_there(bytes_model):
    images, _, (module, scaled) = bytes_model
    between = ((images[:50] + 0.37).clip(0, 255) / 255).astype(np.float32)
    rows = between.reshape(50, 1, 30).astype(np.float64)
    expected = np.linalg.norm(rows - module.centroids.numpy(), axis=2)
    np.testing.assert_allclose(ask(scaled, between)["distances"], expected, rtol=1e-6)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255, np.nan, np.inf])
def test_images_that_are_not_scaled(bytes_model, value):
    images, _, (_, scaled) = bytes_model
    wrong = images[:3].astype(np.float32) / np.float32(255)
    wrong[2, 1, 1] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not within 0 … 1; give pixels as"):
        ask(scaled, wrong)


def test_floats_are_not_scaled():
    _, signatures = build_model(np.ones((2, 5), np.float32), (5,), "float32")
    assert signatures.keys() == {"serving_default"}


# The folder.


def test_the_marker_of_the_model_and_that_of_the_result_come_last(fit, make_shards, monkeypatch):
    replace, names = os.replace, []

    def record(source, target):
        names.append(os.path.relpath(target, start=os.path.dirname(os.path.dirname(target))))
        replace(source, target)

    monkeypatch.setattr(os, "replace", record)
    fit(make_shards(images_of((6, 5), "uint8")), 2, saved_model=True)
    files = [name.rpartition("/")[2] for name in names]
    last_variable = max(i for i, name in enumerate(names) if name.startswith("variables/"))
    assert last_variable < files.index("saved_model.pb") < files.index("metrics.json")
    assert files[-1] == "metrics.json"


def test_overwriting_replaces_the_model(fit, make_shards, new_folder):
    from job import fit as fitting
    from job.config import FitConfig

    shards, output = make_shards(images_of((6, 5), "uint8")), new_folder()
    fitting.fit(FitConfig(shards=shards, output=str(output), k=2))
    leftover = output / "model" / "variables" / f"old.0abc{storage.TEMPORARY_SUFFIX}"
    leftover.write_bytes(b"half")
    fitting.fit(FitConfig(shards=shards, output=str(output), k=3, overwrite=True))
    assert not leftover.exists()
    assert (
        ask(load(output)["serving_default"], images_of((6, 5), "uint8"))["distances"].shape[1] == 3
    )


# MNIST.


@pytest.mark.slow
def test_mnist(fit, make_shards, mnist):
    with np.load(mnist) as file:
        images = file["x_train"]
    shards = make_shards(images, num_shards=3, block_rows=1337)
    result = fit(shards, 10, max_iterations=12, saved_model=True)
    assert result.rows["id"].to_pylist() == shard_set.numbered(60_000)
    answer = load(result.folder)["serving_default"]
    parts = [ask(answer, part) for part in np.array_split(images, 6)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.testing.assert_array_equal(found["cluster"], result.clusters)
    np.testing.assert_array_equal(found["distance"], result.distances)
    scaled = ask(load(result.folder)["scaled"], images[:10_000] / np.float32(255))
    check_same(scaled, {name: values[:10_000] for name, values in found.items()})

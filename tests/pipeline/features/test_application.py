"""Models of `keras.applications` by name. One with weights is built once, for all tests here."""

import keras_weights
import numpy as np
import pytest
import sets

from job.cli import main
from pipeline.errors import UserError
from pipeline.features import feature_of
from pipeline.features.application import SIZES, ApplicationFeature

SHAPE = (40, 30, 3)
SPEC = f"keras:{keras_weights.NAME}"


@pytest.fixture(scope="module", autouse=True)
def model(cpus, new_folder):
    """The model whose weights are in Keras' cache."""
    with pytest.MonkeyPatch.context() as patch:
        yield keras_weights.write(new_folder(), patch)


@pytest.fixture(scope="module")
def saved(model, new_folder) -> str:
    """A file of the model for images of SHAPE."""
    feature = feature_of(SPEC)
    assert feature.num_features(SHAPE, "uint8") == 1024
    feature.save(path := str(new_folder() / "transform.keras"), SHAPE, "uint8")
    return path


@pytest.fixture(scope="module")
def embedding(saved):
    return feature_of(SPEC).load(saved, SHAPE, "uint8")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.uint8)


def message(name: str, shape=SHAPE) -> str:
    with pytest.raises(UserError) as caught:
        feature_of(f"keras:{name}").num_features(shape, "uint8")
    return str(caught.value)


def test_vectors_are_what_a_user_would_compute(model, embedding, images):
    import keras

    large = keras.layers.Resizing(224, 224)(images.astype(np.float32))
    expected = model.predict(keras.applications.mobilenet.preprocess_input(large), verbose=0)
    vectors = embedding.apply(images.reshape(5, -1))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(vectors / scale, expected / scale, atol=1e-5)


def test_the_vector_of_an_image_depends_on_nothing_else(embedding, images):
    rows = images.reshape(5, -1)
    together = embedding.apply(rows)
    apart = [embedding.apply(rows[4:]), embedding.apply(rows[2:4]), embedding.apply(rows[:2])]
    assert np.concatenate(apart[::-1]).tobytes() == together.tobytes()


def test_saved_again_it_has_the_same_bytes(saved, tmp_path):
    import keras

    keras.layers.Dense(3)  # which takes the first name of its kind
    feature_of(SPEC).save(again := str(tmp_path / "again.keras"), SHAPE, "uint8")
    with open(saved, "rb") as one, open(again, "rb") as other:
        assert one.read() == other.read()


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "dtype"), [((28, 20), "uint8"), ((28, 20, 1), "float32")])
def test_grey_images_become_rgb(tmp_path, embedding, shape, dtype):
    feature = feature_of(SPEC)
    feature.save(path := str(tmp_path / "grey.keras"), shape, dtype)
    grey = np.random.default_rng(0).integers(0, 256, (2, 28, 20)).astype(np.uint8)
    rows = grey.reshape(2, -1) if dtype == "uint8" else grey.reshape(2, -1) / np.float32(255)
    vectors = feature.load(path, shape, dtype).apply(rows)
    rgb = (28, 20, 3)
    feature.save(path := str(tmp_path / "rgb.keras"), rgb, "uint8")
    expected = feature.load(path, rgb, "uint8").apply(np.repeat(grey, 3).reshape(2, -1))
    np.testing.assert_allclose(vectors, expected, rtol=1e-4)


def test_models_that_there_are_not():
    line = message("mobilenetv3smal")
    assert "keras:mobilenetv3smal: no image model of keras.applications: did you mean Mob" in line
    assert "did you mean MobileNetV3Small? (a model of your own is a .keras or .h5 file)" in line
    assert "there are ConvNeXtBase, ConvNeXtLarge, " in message("xyz")


def test_weights_that_cannot_be_had(monkeypatch):
    """Keras would download them: here it cannot."""

    def refuse(*args):
        raise OSError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    line = message("VGG16")
    file = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert line.startswith("--transform keras:VGG16: its weights cannot be downloaded; put ")
    assert f"; put {file} into " in line
    assert "/models (it comes from https://" in line
    assert line.endswith(f"{file})")


def test_images_that_no_model_takes():
    line = message(keras_weights.NAME, (8, 8, 4))
    assert line == f"--transform {SPEC}: takes grey or RGB images, these are of 8 × 8 × 4"
    assert message(keras_weights.NAME, (50,)).endswith("takes grey or RGB images, these are of 50")


def test_sizes_are_those_of_keras(monkeypatch):
    """Every model asks for its default size before it is built."""
    from keras import applications

    def stop(*args, default_size, **more):
        raise StopIteration(default_size)

    models = [name for name in vars(applications) if name[0].isupper()]
    monkeypatch.setattr("keras.src.applications.imagenet_utils.obtain_input_shape", stop)
    for name in models:
        size = ApplicationFeature(name).image_size()
        if name.startswith("MobileNetV3"):  # they ask nobody
            assert size == (224, 224)
            continue
        with pytest.raises(StopIteration) as asked:
            getattr(applications, name)(include_top=False, weights=None)
        assert size == (asked.value.value, asked.value.value), name
    assert set(SIZES) <= set(models)
    assert len(models) > 35


@pytest.mark.slow
def test_photos_of_any_size_and_new_ones(tmp_path):
    """The whole way: the size is that of the model, the assignments are those of the fit."""
    rng = np.random.default_rng(0)
    (folder := tmp_path / "photos").mkdir()
    for number in range(4):
        size = (30 + 10 * number, 40, 3)
        data = sets.encoded(rng.integers(0, 256, size).astype(np.uint8))
        (folder / f"{number}.png").write_bytes(data)
    shards, out = tmp_path / "shards", tmp_path / "out"
    command = ["shard", "--input", str(folder), "--transform", SPEC, "--normalize", "--quiet"]
    assert main([*command, "--output", str(shards), "--num-shards", "2"]) == 0
    manifest, vectors = sets.read_set(shards)
    assert (manifest.transform.spec, manifest.transform.image_shape) == (
        f"{SPEC},unit",
        (224, 224, 3),
    )
    np.testing.assert_allclose(np.linalg.norm(vectors.pixels, axis=1), 1, rtol=1e-6)
    assert main(["fit", "--shards", str(shards), "--output", str(out), "--k", "2", "--quiet"]) == 0
    command = ["assign", "--model", str(out), "--input", str(folder), "--quiet"]
    assert main([*command, "--output", str(tmp_path / "new")]) == 0
    rows = [
        sorted(map(str, sets.pq.read_table(path / "assignments").to_pylist()))
        for path in (out, tmp_path / "new")
    ]
    assert rows[0] == rows[1]

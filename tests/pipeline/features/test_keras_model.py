"""Saved Keras models as what makes vectors of images."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.features.keras_model import BATCH, load_embedding

SHAPE = (6, 5)


@pytest.fixture(scope="module")
def save(cpus, new_folder):
    """Saves a Sequential model of `layers` for inputs of a shape; its path."""
    import keras

    def make(shape, *layers, dtype="float32", name="model.keras") -> str:
        model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
        model.save(path := str(new_folder() / name))
        return path

    return make


@pytest.fixture(scope="module")
def layers(cpus):
    import keras

    return keras.layers


def pixels(count: int = 7, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 30)).astype(dtype)


def message(path: str, shape=SHAPE, dtype="uint8") -> str:
    with pytest.raises(UserError) as caught:
        load_embedding(path, shape, dtype)
    return str(caught.value)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (30,), (None, None, 1)], ids=str)
def test_pixels_arrive_between_0_and_1_in_the_shape_of_the_model(save, layers, shape):
    path = save(shape, layers.Flatten() if None not in shape else layers.GlobalMaxPooling2D())
    vectors = load_embedding(path, SHAPE, "uint8").apply(pixels())
    expected = pixels() / np.float32(255)
    if None in shape:
        expected = expected.max(axis=1, keepdims=True)
    np.testing.assert_array_equal(vectors, expected)
    assert vectors.dtype == np.float32


def test_a_model_of_bytes_gets_them_as_they_are(save, layers):
    path = save(SHAPE, layers.Flatten(dtype="uint8"), dtype="uint8")
    np.testing.assert_array_equal(load_embedding(path, SHAPE, "uint8").apply(pixels()), pixels())


def test_float_images_arrive_as_they_are(save, layers):
    path = save((30,), layers.Rescaling(2.0))
    vectors = load_embedding(path, (30,), "float32").apply(pixels(dtype="float32"))
    np.testing.assert_array_equal(vectors, 2 * pixels(dtype="float32"))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_vectors_are_what_keras_predicts(save, layers, name):
    import keras

    path = save(
        (6, 5, 1),
        layers.Conv2D(3, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(4),
        name=name,
    )
    images = pixels(2 * BATCH + 3)
    embedding = load_embedding(path, SHAPE, "uint8")
    expected = keras.models.load_model(path).predict(images.reshape(-1, 6, 5, 1) / 255, verbose=0)
    assert embedding.num_features == 4
    np.testing.assert_allclose(embedding.apply(images), expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_off(save, layers):
    embedding = load_embedding(save((30,), layers.Dropout(0.5)), SHAPE, "uint8")
    assert embedding.apply(pixels()).tobytes() == embedding.apply(pixels()).tobytes()


def test_models_for_other_images(save, layers):
    path = save((8, 8, 3), layers.Flatten())
    assert message(path).endswith(
        "no model for these images: it takes 8 × 8 × 3, the images are 6 × 5"
    )


def test_models_that_make_no_vector(save, layers):
    line = message(save((6, 5, 1), layers.Conv2D(8, 3)))
    assert "it makes 4 × 3 × 8 of each image; a vector is needed, so end it with Gl" in line
    line = message(save((6, 5), layers.Flatten(), layers.Dense(1), layers.Reshape(())))
    assert "it makes one number of each image" in line


def test_models_of_several_inputs_or_outputs(cpus, new_folder):
    import keras

    one, two = keras.Input((30,)), keras.Input((30,))
    paths = [str(new_folder() / "model.keras") for _ in range(2)]
    keras.Model([one, two], keras.layers.Add()([one, two])).save(paths[0])
    keras.Model(one, [keras.layers.Rescaling(scale)(one) for scale in (1, 2)]).save(paths[1])
    assert "it has 2 inputs; one is needed" in message(paths[0])
    assert "it has 2 outputs; one is needed" in message(paths[1])


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "text.keras").write_text("hello")
    (tmp_path / "text.h5").write_text("hello")
    assert "text.keras: not a Keras model that can be loaded (no zip file)" in message(
        str(tmp_path / "text.keras")
    )
    line = message(str(tmp_path / "text.h5"))
    assert "text.h5: not a Keras model that can be loaded (" in line
    assert "/model.h5" not in line  # the copy that was tried
    assert "nowhere.keras: no such file" in message(str(tmp_path / "nowhere.keras"))
    assert "a Keras model is a .keras or .h5 file; save it with model.save(" in message(
        str(tmp_path)
    )

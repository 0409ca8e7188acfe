"""Random weights of a model of `keras.applications`, where Keras looks for those of ImageNet."""

from pathlib import Path
from typing import Any

import pytest

# Keras checks no checksum of its weights.
NAME, FILE = "MobileNet", "mobilenet_1_0_224_tf_no_top.h5"


def write(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Makes `folder` Keras' home, with weights of the model NAME in it; the model."""
    import keras

    keras.utils.set_random_seed(0)
    shape = (224, 224, 3)
    model = keras.applications.MobileNet(
        weights=None, include_top=False, pooling="avg", input_shape=shape
    )
    (folder / "models").mkdir()
    model.save(folder / "models" / FILE)
    # Keras reads the variable KERAS_HOME once, when it is imported.
    patch.setattr(keras.src.backend.config, "_KERAS_DIR", str(folder))
    return model

"""The options of `shard` and `assign`: how their texts are parsed and what is refused."""

from pathlib import Path

import pytest

from pipeline.config import AssignConfig, ShardConfig, fraction, image_size
from pipeline.errors import UserError


def config(**values) -> ShardConfig:
    return ShardConfig(**{"input": "digits", "output": "shards", **values})


def test_sizes_and_fractions_are_parsed():
    assert image_size("28x30") == image_size("28×30") == (28, 30)
    assert (fraction("0"), fraction("0.25"), fraction("1")) == (0.0, 0.25, 1.0)


@pytest.mark.parametrize("text", ["28", "0x3", "3x-1", "axb", "100000x1", ""])
def test_a_text_that_is_no_size(text):
    with pytest.raises(ValueError, match="is not HxW in pixels"):
        image_size(text)


@pytest.mark.parametrize("text", ["2", "-0.1", "nan", "half"])
def test_a_text_that_is_no_fraction(text):
    with pytest.raises(ValueError, match=f"'{text}' is not a number from 0 to 1"):
        fraction(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "x"}, "--split x: choose from train, test, all"),
        ({"num_shards": 0}, "--num-shards 0: must be at least 1"),
        ({"num_shards": 2.5}, "--num-shards 2.5: must be a whole number"),
        ({"image_size": 28}, "--image-size 28: must be a height and a width in pixels"),
        ({"image_size": "28x28"}, "--image-size 28x28: must be a height and a width in pixels"),
        ({"image_size": (28, 0)}, "must be a height and a width in pixels"),
        ({"max_rejected": float("nan")}, "--max-rejected nan: must be a number from 0 to 1"),
        ({"transform": "umap:3"}, "--transform umap:3: 'umap:3' is neither pca:N nor"),
        ({"grayscale": "yes"}, "--grayscale yes: must be True or False"),
        ({"grayscale": True, "color": "rgb"}, "--grayscale, --color rgb: give one of them"),
        ({"color": "grey"}, "--color grey: choose from auto, rgb, gray"),
        ({"resize": "crop"}, "--resize crop: needs a size; add --image-size HxW"),
        ({"image_size": (8193, 8193)}, "8193x8193 are 67,125,249 pixels; at most 67,108,864 can"),
    ],
)
def test_values_are_refused(values, message):
    with pytest.raises(UserError) as raised:
        config(**values)
    assert message in str(raised.value)


def test_grayscale_is_short_for_a_color():
    assert config(grayscale=True) == config(color="gray")
    assert config(grayscale=True, color="gray").request().color == "gray"


def test_one_input_or_several_given_as_text_or_paths():
    assert config(input=Path("a/b.npz")).input == ("a/b.npz",)
    assert config(input=["a.npz", Path("b.npz")]).input == ("a.npz", "b.npz")


def test_paths_of_a_config_become_texts():
    made = AssignConfig(input="digits", model=Path("out"), output=Path("new"))
    assert (made.model, made.output) == ("out", "new")

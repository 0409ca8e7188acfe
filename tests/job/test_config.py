"""The options of `fit`: several k, and what is refused."""

import pytest

from job.config import FitConfig, Ks, parse_ks, sweep_configs
from pipeline.errors import UserError


def test_ks_are_parsed_and_written_alike():
    assert parse_ks("8") == (8,)
    assert parse_ks("16,8,10") == (16, 8, 10)
    assert str(parse_ks("16,8,10")) == "16,8,10"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8,,10", "'8,,10' is neither a number nor numbers with commas between"),
        ("8;10", "'8;10' is neither"),
        ("8,10,8", "'8,10,8' has 8 twice; give each number once"),
    ],
)
def test_texts_that_are_no_ks(text, message):
    with pytest.raises(ValueError, match=message):
        parse_ks(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 0}, "--k 0: must be at least 1"),
        ({"k": 2.0}, "--k 2.0: must be a whole number"),
        ({"init": "magic"}, "--init magic: choose from random, k-means++, k-means||, or give"),
        ({"tol": -0.5}, "--tol -0.5: must be at least 0"),
        ({"tol": float("nan")}, "--tol nan: must be at least 0"),
        ({"memory": "disk"}, "--memory disk: choose from auto, resident, stream"),
        ({"overwrite": 1}, "--overwrite 1: must be True or False"),
    ],
)
def test_values_are_refused(values, message):
    with pytest.raises(UserError) as raised:
        FitConfig(**{"shards": "s", "output": "o", "k": 2, **values})
    assert message in str(raised.value)


def test_a_sweep_is_a_fit_for_each_k_the_largest_first():
    config = FitConfig("s", "out", 10, tensorboard="logs", seed=3)
    made = sweep_configs(config, Ks((2, 10)))
    assert [(each.k, each.output, each.tensorboard, each.seed) for each in made] == [
        (10, "out/k=10", "logs/k=10", 3),
        (2, "out/k=2", "logs/k=2", 3),
    ]


def test_centroids_of_a_file_are_of_one_k():
    with pytest.raises(UserError, match=r"--init first\.npy: a file holds the centroids of one k"):
        sweep_configs(FitConfig("s", "out", 2, init="first.npy"), (2, 3))

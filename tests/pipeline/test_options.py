"""An option is described once: flags, checks, signatures and tables follow from its field."""

import argparse
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

import kmeans_job
from job.cloud.config import CloudConfig
from job.config import FitConfig
from pipeline import options
from pipeline.config import AssignConfig, ShardConfig
from pipeline.errors import UserError
from pipeline.options import option

CONFIGS = [ShardConfig, AssignConfig, FitConfig, CloudConfig]


def even(text: str) -> int:
    if int(text) % 2:
        raise ValueError(f"{text!r} is odd")
    return int(text)


@dataclasses.dataclass(frozen=True)
class Example:
    source: str = option(metavar="PATH", help="where from")
    names: tuple[str, ...] = option(("a",), metavar="NAME", help="some names")
    kind: str = option("plain", choices=("plain", "odd"), decides_bits=True, help="which kind")
    count: int = option(2, parse=even, least=0, help="how many")
    rate: float = option(0.5, least=0, help="how fast")
    limit: int | None = option(None, metavar="N", help="at most (default: all)")
    loud: bool = option(False, recorded=False, help="aloud")
    hidden: int = option(7, is_flag=False, help="from Python only")

    def __post_init__(self):
        options.check(self)


def parsed(*words: str) -> Example:
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_flags(parser, Example)
    return options.from_flags(Example, vars(parser.parse_args(["--source", "s", *words])))


def test_flags_have_the_types_and_defaults_of_the_fields():
    assert parsed() == Example("s")
    words = "--names x y --kind odd --count 4 --rate 2 --limit 9 --loud"
    assert parsed(*words.split()) == Example("s", ("x", "y"), "odd", 4, 2.0, 9, True)


def test_a_required_field_is_a_required_flag():
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_flags(parser, Example, without=("count",))
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        parser.parse_args([])
    assert not {"--hidden", "--count"} & set(parser._option_string_actions)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 3", "'3' is odd"),
        ("--rate fast", "'fast' is not a number"),
        ("--limit 2.5", "'2.5' is not a whole number"),
    ],
)
def test_a_text_that_cannot_be_parsed_is_refused(words, message):
    with pytest.raises(argparse.ArgumentError, match=f"{message}$"):
        parsed(*words.split())


def test_a_flag_of_several_words_may_be_repeated():
    assert parsed("--names", "x", "y", "--names", "z").names == ("x", "y", "z")


def test_a_command_may_describe_a_flag_otherwise():
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Example, source="from here")
    assert "from here" in parser.format_help()
    assert "where from" not in parser.format_help()


def test_help_names_the_default_once():
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Example)
    text = " ".join(parser.format_help().split())
    assert "which kind (default: plain)" in text
    assert "how fast (default: 0.5)" in text
    assert text.count("default: all") == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "strange"}, "--kind strange: choose from plain, odd"),
        ({"count": -2}, "--count -2: must be at least 0"),
        ({"rate": float("nan")}, "--rate nan: must be at least 0"),
        ({"count": 2.5}, "--count 2.5: must be a whole number"),
        ({"count": "2"}, "--count 2: must be a whole number"),
        ({"count": None}, "--count None: must be a whole number"),
        ({"rate": "fast"}, "--rate fast: must be a number"),
        ({"kind": 3}, "--kind 3: must be text or a path"),
        ({"loud": "no"}, "--loud no: must be True or False"),
    ],
)
def test_values_are_checked(values, message):
    with pytest.raises(UserError) as raised:
        Example("s", **values)
    assert str(raised.value) == message


def test_values_of_python_callers_become_those_of_the_fields():
    config = Example(Path("a/b"), count=np.int64(4), rate=np.float32(0.25), limit=None)
    assert config == Example("a/b", count=4, rate=0.25)
    kinds = str, int, float
    assert tuple(map(type, (config.source, config.count, config.rate))) == kinds


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match="unknown option 'cuont': did you mean count"):
        options.from_keywords(Example, {"source": "s", "cuont": 2})
    with pytest.raises(TypeError, match="missing option 'source': where from"):
        options.from_keywords(Example, {})


def test_flags_of_a_config_make_it_again():
    config = Example("s", ("a", "x"), "odd", 4, 1 / 3, 9, True)
    words = options.to_flags(config, without=("source", "names"))
    assert dataclasses.replace(parsed(*words), names=("a", "x")) == config
    assert options.to_flags(Example("s"), without=("source",)) == []


def test_what_is_recorded_and_what_decides():
    assert "loud" not in options.recorded(Example("s"))
    assert options.decisive(Example("s")) == {"kind": "plain"}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_says_what_it_is_for(config):
    for field, known in options.options_of(config):
        assert known.help.strip(), field.name
        assert not known.help.endswith("."), field.name


@pytest.mark.parametrize("config", CONFIGS)
def test_a_table_has_a_row_for_each_flag(config):
    rows = options.table(config).splitlines()[2:]
    flags = [field for field, known in options.options_of(config) if known.is_flag]
    assert len(rows) == len(flags)
    for field, row in zip(flags, rows, strict=True):
        assert options.flag_of(field.name) in row
        assert row.replace("\\|", "").count("|") == 4


@pytest.mark.parametrize(
    ("function", "config", "others"),
    [
        (kmeans_job.shard, ShardConfig, set()),
        (kmeans_job.fit, FitConfig, {"callbacks"}),
        (kmeans_job.assign, AssignConfig, set()),
    ],
)
def test_python_functions_show_every_option(function, config, others):
    names = {field.name for field in dataclasses.fields(config)}
    parameters = inspect.signature(function).parameters
    assert set(parameters) == names | others
    assert parameters["quiet"].default is True


def test_fits_of_two_configs_differ_by_what_decides_the_bits():
    decisive = set(options.decisive(FitConfig("s", "o", 3)))
    assert decisive >= {"k", "init", "seed", "restarts", "max_iterations", "tol"}
    assert not decisive & {"shards", "output", "replicas", "memory", "checkpoint_seconds"}

"""Errors of the user come back from an engine's text as they went in."""

import pickle
import re
import traceback

import pytest
from jobs import ROOT

from pipeline.errors import (
    MAX_CHARACTERS,
    Conflict,
    TransientError,
    UserError,
    from_engine,
    from_traceback,
    install_hint,
)


def printed(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def test_message_is_one_line():
    assert str(UserError("a\nb.png: damaged")) == "a\\nb.png: damaged"


def test_names_cannot_command_a_terminal():
    error = UserError("gs://bucket/\x1b[2J\u202e\x00é.png: damaged\r")
    assert str(error) == "gs://bucket/\\x1b[2J\\u202e\\x00é.png: damaged\\r"


def test_long_names_are_cut_in_the_middle():
    text = str(UserError(f"gs://bucket/{'x' * 5000}: damaged; write it again"))
    assert len(text) <= MAX_CHARACTERS + 2
    assert text.startswith("gs://bucket/xxx")
    assert text.endswith("xxx: damaged; write it again")


def test_survives_pickling():
    copy = pickle.loads(pickle.dumps(TransientError("set.npz: cannot read")))
    assert isinstance(copy, TransientError)
    assert str(copy) == "set.npz: cannot read"


@pytest.mark.parametrize("kind", [UserError, TransientError, Conflict])
def test_found_at_the_end_of_a_traceback(kind):
    text = f"Traceback of worker 3:\n{printed(kind('x.npz: damaged'))}\n"
    assert str(from_traceback(text)) == "x.npz: damaged"


def test_what_beam_appends_is_left_out():
    text = printed(UserError("x.npz: damaged")).rstrip() + " [while running 'ShardImages/Write']"
    assert str(from_traceback(text)) == "x.npz: damaged"


def test_error_that_an_engine_raises_again():
    error = UserError("x.npz: damaged [while running 'ShardImages/Write-ptransform-7']")
    assert str(from_engine(error)) == "x.npz: damaged"
    assert str(from_engine(RuntimeError(printed(UserError("a: b"))))) == "a: b"
    assert from_engine(RuntimeError("out of slots")) is None


def test_last_of_several_counts():
    text = printed(UserError("first")) + printed(UserError("second"))
    assert str(from_traceback(text)) == "second"


def test_none_in_another_traceback():
    assert from_traceback(printed(ValueError("UserError: not ours"))) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a?X-Sig=12&b=c: cannot read", "https://host/a?…: cannot read"),
        ("--input https://me:secret@host/a: no", "--input https://…@host/a: no"),
        ("s3://bucket/what?.png: no such file", "s3://bucket/what?.png: no such file"),
        ("--seed 3: is it a number?", "--seed 3: is it a number?"),
    ],
)
def test_secrets_of_urls_are_left_out(text, shown):
    assert str(UserError(text)) == shown


def test_one_function_says_how_to_install_an_extra():
    assert install_hint("gcp") == (
        "pip install 'kmeans-job[gcp]' (in a checkout: pip install '.[gcp]')"
    )
    files = [
        path for name in ("job", "kmeans_job", "pipeline") for path in (ROOT / name).rglob("*.py")
    ]
    saying = [path.name for path in files if "pip install" in path.read_text(encoding="utf-8")]
    assert saying == ["errors.py"]


def test_extras_that_messages_name_exist():
    text = "".join(
        path.read_text() for name in ("job", "pipeline") for path in (ROOT / name).rglob("*.py")
    )
    named = set(re.findall(r"install_hint\(['\"](\w+)['\"]\)", text))
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert named >= {"gcp", "heic", "tensorboard"}
    assert all(f'"{name}": ' in setup for name in named), named

"""Names of files, labels and images that are common to all sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import checks


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/data/a.parquet"], ["a.parquet"]),
        (["/data/a/x.npz", "/data/b/x.npz"], ["a/x.npz", "b/x.npz"]),
        (["/data/x.npz", "/data/b/x.npz"], ["x.npz", "b/x.npz"]),
    ],
)
def test_short_names_are_unique(paths, names):
    assert checks.short_names(paths) == names


def test_names_that_are_numbers():
    assert checks.digit_names(0) == ()


def test_different_names_are_different_texts():
    names = [
        b"\\xff",
        b"\xff",
        b"\\\xff",
        b"\\x5cxff",
        b"\\x5c",
        b"\\",
        b"\\xf\xff",
        b"a\\b",
        "é".encode(),
    ]
    texts = [checks.text_of(name) for name in names]
    assert len(set(texts)) == len(names)
    assert texts[-2:] == ["a\\b", "é"]


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_a_text_stands_for_one_name(one, other):
    assert (checks.text_of(one) == checks.text_of(other)) == (one == other)

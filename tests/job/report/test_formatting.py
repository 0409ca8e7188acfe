"""Numbers and names as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.report import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (0.0, "0"),
        (60_000, "60,000"),
        (2_357_500.55, "2,357,501"),
        (0.62567, "0.6257"),
        (1.0, "1.000"),
        (39.2917, "39.29"),
        (0.000012345, "1.234e-05"),
    ],
)
def test_figures(value, text):
    assert formatting.figure(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.25, "25 %"),
        (0.0123, "1 %"),
        (0.004, "0.4 %"),
        (0.00001, "< 0.1 %"),
        (0.996, "99.6 %"),
        (0.99999, "> 99.9 %"),
    ],
)
def test_percentages(share, text):
    assert formatting.percent(share).replace("\u00a0", " ") == text


def test_durations_and_small_numbers():
    assert [formatting.duration(s) for s in (4.14, 59.94, 125, 3780)] == [
        "4.1 s",
        "59.9 s",
        "2 min 5 s",
        "1 h 3 min",
    ]
    assert [formatting.number_word(n) for n in (2, 10, 11)] == ["two", "ten", "11"]


@given(st.text(max_size=300))
def test_bounded_text_is_short_printable_and_else_itself(text):
    shown = formatting.bounded(text)
    assert len(shown) <= formatting.MAX_TEXT
    assert shown.isprintable()
    if text.isprintable() and len(text) <= formatting.MAX_TEXT:
        assert shown == text

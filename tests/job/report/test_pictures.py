"""Pictures decode to what they were made of, and share the room of a page."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from report_page import decoded

from job.report import pictures


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_a_grey_picture_is_exact(picture):
    uri = pictures.data_uri(picture, 40)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(decoded(uri), picture)


def test_a_colour_picture_keeps_its_colours():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16, :, 0], picture[16:, :, 2] = 250, 200
    shown = decoded(pictures.data_uri(picture, 96)).astype(int)
    assert shown.shape == (32, 32, 3)
    assert np.abs(shown - picture).mean() < 4


def test_a_large_picture_shrinks_by_means_and_keeps_its_proportions():
    picture = np.tile(np.array([[0, 200]], np.uint8), (100, 100))  # [100, 200], striped
    shown = decoded(pictures.data_uri(picture, 20))
    np.testing.assert_array_equal(shown, np.full((10, 20), 100))


def test_floats_are_shown_from_black_to_white_and_clipped():
    row = np.array([[-1, 0, 0.5, 1, 7, np.nan]], np.float32)
    np.testing.assert_array_equal(pictures.as_pictures(row, (2, 3)), [[[0, 0, 128], [255, 255, 0]]])


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, (5, 2, 2)), (2, (5, 2, 2)), (3, (5, 2, 2, 3)), (4, (5, 2, 2, 3))],
)
def test_channels(channels, expected):
    pixels = np.arange(5 * 4 * channels, dtype=np.uint8).reshape(5, -1)
    shown = pictures.as_pictures(pixels, (2, 2, channels))
    assert shown.shape == expected
    assert shown[1].flat[0] == pixels[1, 0]


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 10**5))
def test_pictures_share_the_room_or_are_as_small_as_they_may_be(height, width, count):
    side = pictures.side_for((height, width), count, 10**6)
    assert side <= max(height, width, pictures.MIN_SIDE)
    if side > pictures.MIN_SIDE:
        scale = side / max(height, width)
        assert height * width * scale**2 * count <= 10**6 * 1.001


def test_twenty_eight_by_twenty_eight_is_not_shrunk_at_a_hundred_clusters():
    assert pictures.side_for((28, 28), 100 * 35, pictures.MAX_PIXELS) == 28
    assert pictures.side_for((28, 28), 100 * 4, pictures.MAX_CENTROID_PIXELS) == 28


def test_float_images_beyond_one_are_scaled_to_their_range():
    pixels = np.array([[-100.0, 100.0], [0.0, 300.0]], np.float32)
    (centroid,), members = pictures.centroids_and_members(pixels[:1], pixels, (1, 2))
    np.testing.assert_array_equal(decoded(centroid), [[0, 128]])
    np.testing.assert_array_equal(decoded(members[1]), [[64, 255]])


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("size", [(16, 12), (32, 24)])
def test_a_sheet_shows_each_picture_in_its_cell(channels, size):
    levels = np.array([0, 60, 120, 180, 240], np.uint8)
    drawn = np.broadcast_to(levels[:, None, None, *[None] * len(channels)], (5, 24, 32, *channels))
    shown = decoded(pictures.sheet(drawn, size, 3)).astype(int)
    width, height = size
    assert shown.shape == (2 * height, 3 * width, 3)
    for number, level in enumerate(levels.tolist()):
        y, x = height * (number // 3), width * (number % 3)
        cell = shown[y + 2 : y + height - 2, x + 2 : x + width - 2]
        assert np.abs(cell - level).mean() < 4
    assert shown[height + 2 :, 2 * width + 2 :].max() < 4  # the last cell is empty

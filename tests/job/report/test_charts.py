"""Pictures decode to what they were made of; charts and maps lie where their numbers say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from report_page import decoded

from job.report import charts as pictures
from job.report import formatting

counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=30)


def points(path: str) -> np.ndarray:
    """The points [n, 2] of SVG path data made of straight lines."""
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path), float)


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
    (centroid,), members = pictures.of_images(pixels[:1], pixels, (1, 2))
    np.testing.assert_array_equal(decoded(centroid), [[0, 128]])
    np.testing.assert_array_equal(decoded(members[1]), [[64, 255]])


def test_a_spark_has_its_values_in_order_and_its_means_where_they_are_many():
    line = points(pictures.spark_path(np.array([0.0, 1.0, 0.5]), 0, 1))
    low, middle, high = pictures.SPARK_HEIGHT - 2, pictures.SPARK_HEIGHT / 2, 2
    np.testing.assert_allclose(
        line, [[0, low], [pictures.SPARK_WIDTH / 2, high], [pictures.SPARK_WIDTH, middle]]
    )
    alternating = np.tile([0.0, 1.0], 3 * pictures.SPARK_POINTS)
    line = points(pictures.spark_path(alternating, 0, 1))
    np.testing.assert_allclose(line[:, 1], np.full(pictures.SPARK_POINTS, middle))
    assert len(points(pictures.spark_path(np.array([1.0]), 1, 1))) == 2


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=50),
    st.booleans(),
)
def test_a_chart_stays_in_its_box_and_falls_where_its_values_fall(values, logarithmic):
    chart = pictures.chart(range(1, len(values) + 1), values, logarithmic)
    line = points(chart.path)
    top, right, bottom, left = pictures.CHART_MARGINS
    assert len(line) == len(values)
    assert (line[:, 0] >= left).all()
    assert (line[:, 0] <= pictures.CHART_WIDTH - right).all()
    assert (line[:, 1] >= top).all()
    assert (line[:, 1] <= pictures.CHART_HEIGHT - bottom).all()
    falls = np.diff(values) <= 0
    assert (np.diff(line[:, 1])[falls] >= 0).all()  # y grows downwards
    assert (np.diff(line[:, 1])[~falls] <= 0).all()
    assert chart.dots == [(*line[-1], False)]


def test_the_ticks_of_a_chart_are_round_and_enclose_the_line():
    chart = pictures.chart([1, 2, 3], [2_350_000.0, 2_410_000.0, 2_360_000.0], False)
    assert [tick.text for tick in chart.y_ticks] == [
        "2,340,000",
        "2,360,000",
        "2,380,000",
        "2,400,000",
        "2,420,000",
    ]
    chart = pictures.chart([1, 2, 3], [60_000, 40, 0], True)
    texts = [tick.text for tick in chart.y_ticks]
    assert texts == ["0", "1", "10", "100", "1,000", "10,000", "100,000"]
    assert [tick.text for tick in chart.x_ticks] == ["1", "2", "3"]


@given(
    npst.arrays(
        np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.floats(-9, 9)
    )
)
def test_the_plane_keeps_as_much_variance_as_numpy_says(centroids):
    places, share = pictures.principal_plane(centroids)
    variances = np.sort(
        np.linalg.eigvalsh(np.cov(centroids.T, bias=True).reshape(centroids.shape[1], -1))
    )[::-1]
    np.testing.assert_allclose(places.var(axis=0).sum(), variances[:2].sum(), atol=1e-9)
    assert share == pytest.approx(variances[:2].sum() / (variances.sum() or 1), abs=1e-6) or (
        variances.sum() < 1e-12
    )


def test_points_of_a_plane_keep_their_distances_and_orders_do_not_turn_the_map():
    random = np.random.default_rng(0)
    flat = random.normal(size=(7, 2)) * [5, 1]
    basis = np.linalg.qr(random.normal(size=(9, 2)))[0]
    places, share = pictures.principal_plane(flat @ basis.T)
    assert share == pytest.approx(1)
    between = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places, axis=2), between)
    shuffled = random.permutation(7)
    again, _ = pictures.principal_plane((flat @ basis.T)[shuffled])
    np.testing.assert_allclose(again, places[shuffled], atol=1e-12)
    assert (places.max(axis=0) >= -places.min(axis=0)).all()


@given(counts)
def test_circles_grow_with_their_counts(sizes):
    radii = pictures.bubble_radii(sizes)
    order = np.argsort(sizes)
    assert (np.diff(radii[order]) >= 0).all()
    assert radii.max() <= pictures.MAP_RADII[1]


def test_the_area_of_a_circle_is_its_count():
    small, large = pictures.bubble_radii([1_000, 4_000])
    assert large == pytest.approx(2 * small)


@given(counts)
def test_the_map_holds_every_circle(sizes):
    centroids = np.random.default_rng(len(sizes)).normal(size=(len(sizes), 5))
    placed = pictures.centroid_map(centroids, sizes)
    for x, y, radius in placed.bubbles:
        assert radius <= x <= pictures.MAP_WIDTH - radius
        assert radius <= y <= placed.height - radius


def test_equal_centroids_lie_in_the_middle_of_the_map():
    placed = pictures.centroid_map(np.ones((2, 3)), [4, 4])
    assert {(x, y) for x, y, _ in placed.bubbles} == {(pictures.MAP_WIDTH / 2, placed.height / 2)}


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

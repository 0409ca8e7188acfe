"""Charts, lines of vectors and maps lie where their numbers say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from job.report import charts

counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=30)


def points(path: str) -> np.ndarray:
    """The points [n, 2] of SVG path data made of straight lines."""
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path), float)


def test_a_spark_has_its_values_in_order_and_its_means_where_they_are_many():
    line = points(charts.spark_path(np.array([0.0, 1.0, 0.5]), 0, 1))
    low, middle, high = charts.SPARK_HEIGHT - 2, charts.SPARK_HEIGHT / 2, 2
    np.testing.assert_allclose(
        line, [[0, low], [charts.SPARK_WIDTH / 2, high], [charts.SPARK_WIDTH, middle]]
    )
    alternating = np.tile([0.0, 1.0], 3 * charts.SPARK_POINTS)
    line = points(charts.spark_path(alternating, 0, 1))
    np.testing.assert_allclose(line[:, 1], np.full(charts.SPARK_POINTS, middle))
    assert len(points(charts.spark_path(np.array([1.0]), 1, 1))) == 2


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=50),
    st.booleans(),
)
def test_a_chart_stays_in_its_box_and_falls_where_its_values_fall(values, logarithmic):
    line_chart = charts.chart(range(1, len(values) + 1), values, logarithmic)
    line = points(line_chart.path)
    top, right, bottom, left = charts.CHART_MARGINS
    assert len(line) == len(values)
    assert (line[:, 0] >= left).all()
    assert (line[:, 0] <= charts.CHART_WIDTH - right).all()
    assert (line[:, 1] >= top).all()
    assert (line[:, 1] <= charts.CHART_HEIGHT - bottom).all()
    falls = np.diff(values) <= 0
    assert (np.diff(line[:, 1])[falls] >= 0).all()  # y grows downwards
    assert (np.diff(line[:, 1])[~falls] <= 0).all()
    assert line_chart.dots == [(*line[-1], False)]


def test_the_ticks_of_a_chart_are_round_and_enclose_the_line():
    line_chart = charts.chart([1, 2, 3], [2_350_000.0, 2_410_000.0, 2_360_000.0], False)
    assert [tick.text for tick in line_chart.y_ticks] == [
        "2,340,000",
        "2,360,000",
        "2,380,000",
        "2,400,000",
        "2,420,000",
    ]
    line_chart = charts.chart([1, 2, 3], [60_000, 40, 0], True)
    texts = [tick.text for tick in line_chart.y_ticks]
    assert texts == ["0", "1", "10", "100", "1,000", "10,000", "100,000"]
    assert [tick.text for tick in line_chart.x_ticks] == ["1", "2", "3"]


@given(
    npst.arrays(
        np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.floats(-9, 9)
    )
)
def test_the_plane_keeps_as_much_variance_as_numpy_says(centroids):
    places, share = charts.principal_plane(centroids)
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
    places, share = charts.principal_plane(flat @ basis.T)
    assert share == pytest.approx(1)
    between = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places, axis=2), between)
    shuffled = random.permutation(7)
    again, _ = charts.principal_plane((flat @ basis.T)[shuffled])
    np.testing.assert_allclose(again, places[shuffled], atol=1e-12)
    assert (places.max(axis=0) >= -places.min(axis=0)).all()


@given(counts)
def test_circles_grow_with_their_counts(sizes):
    radii = charts.bubble_radii(sizes)
    order = np.argsort(sizes)
    assert (np.diff(radii[order]) >= 0).all()
    assert radii.max() <= charts.MAP_RADII[1]


def test_the_area_of_a_circle_is_its_count():
    small, large = charts.bubble_radii([1_000, 4_000])
    assert large == pytest.approx(2 * small)


@given(counts)
def test_the_map_holds_every_circle(sizes):
    centroids = np.random.default_rng(len(sizes)).normal(size=(len(sizes), 5))
    placed = charts.centroid_map(centroids, sizes)
    for x, y, radius in placed.bubbles:
        assert radius <= x <= charts.MAP_WIDTH - radius
        assert radius <= y <= placed.height - radius


def test_equal_centroids_lie_in_the_middle_of_the_map():
    placed = charts.centroid_map(np.ones((2, 3)), [4, 4])
    assert {(x, y) for x, y, _ in placed.bubbles} == {(charts.MAP_WIDTH / 2, placed.height / 2)}

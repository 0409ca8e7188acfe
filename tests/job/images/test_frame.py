"""The frame of float32 sets: exact, the same for any division, tight around the set."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lone_worker import Worker

from job.images.frame import Extent, Frame, extent_from, find_frame, with_quanta
from pipeline.errors import UserError
from pipeline.shards.pixel_scale import Units

BASE = np.random.default_rng(0).normal(size=(400, 6))


def framed(images: np.ndarray) -> tuple[Frame, np.ndarray, Units]:
    """The frame of `images`, the images in it, and their units."""
    extent = Extent.none(images.shape[1]).add(images)
    frame, extent = find_frame(
        extent,
        lambda: images[::3],
        lambda origin: extent_from(origin, np.array_split(images, 5), Worker()),
        "a/set",
    )
    return frame, frame.inside(images), with_quanta(Units(1.0, 0.0), frame, extent, len(images))


@pytest.mark.parametrize("offset", [0, 1e3, 1e6, 1.7e9, -1e20])
@pytest.mark.parametrize("scale", [1e-29, 1, 1e10, 1e30])
def test_images_inside_are_exact_and_of_the_order_of_1(offset, scale):
    images = (BASE * scale + offset).astype(np.float32)
    frame, inside, _ = framed(images)
    back = np.ldexp(inside.astype(np.float64), frame.exponent) + frame.origin
    np.testing.assert_array_equal(back, images)
    assert np.abs(inside).max() <= 1
    spread = np.ptp(images.astype(np.float64), axis=0).max()
    assert np.ldexp(1.0, frame.exponent) <= max(4 * spread, np.abs(images).max() / 4)


def test_an_outlier_does_not_move_the_origin():
    images = (BASE + 1.7e9).astype(np.float32)
    images[5, 2] = 1e10
    frame, inside, _ = framed(images)
    assert np.abs(frame.origin - 1.7e9).max() <= 1e3
    assert np.abs(np.delete(inside, 5, axis=0)).max() < 1e-5  # of the outlier


def test_a_column_whose_differences_are_no_float32_keeps_0_for_origin():
    images = (BASE + 1e6).astype(np.float32)
    images[7, 3] = 0.1
    frame, _, _ = framed(images)
    assert frame.origin[3] == 0
    assert (frame.origin[[0, 1, 2, 4, 5]] != 0).all()


def test_centroids_go_in_and_out():
    frame, inside, _ = framed((BASE * 1e-20 + 1e-15).astype(np.float32))
    published = frame.published(inside[:3].astype(np.float64))
    np.testing.assert_allclose(frame.centroids_inside(published), inside[:3], rtol=1e-9)
    distance = np.square(published[0] - published[1]).sum()
    of_inside = np.square(inside[0].astype(np.float64) - inside[1]).sum()
    assert frame.published_squared(of_inside) == pytest.approx(distance, rel=1e-6)


@given(arrays.arrays(np.float32, (7, 2), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_quanta_cut_every_image_into_integers_that_sum_exactly(images):
    sizes = np.abs(images[images != 0].astype(np.float64))
    assume(not sizes.size or (sizes.max() > 1e-31 and sizes.max() < 1e50 * sizes.min()))
    _, inside, units = framed(images)
    rest = inside.astype(np.float64)
    for quantum in units.quanta:
        part = np.rint(rest / quantum)
        assert np.abs(part).max() * 7 <= 2.0**53
        rest -= part * quantum
    assert not rest.any()


def test_values_that_float32_arithmetic_cannot_tell_apart_are_refused():
    with pytest.raises(UserError, match=r"^a/set: no value is larger than 1.*e-32.*multiply"):
        framed(np.full((3, 2), 1e-32, np.float32))
    with pytest.raises(UserError, match=r"^a/set: values from 9e-41 to .*e\+38, too far apart"):
        framed(np.array([[1e38, 1e-40], [0, 0]], np.float32))


def test_black_images_have_a_frame():
    frame, inside, units = framed(np.zeros((5, 3), np.float32))
    assert (frame.exponent, inside.any(), len(units.quanta)) == (0, False, 1)

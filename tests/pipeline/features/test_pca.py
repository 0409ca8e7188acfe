"""Principal components: exact sums, one basis however the images lie, vectors and back."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from pipeline.features.pca import BASIS_STEP, Moments, Pca, principal_components


def moments_of(*parts: np.ndarray) -> Moments:
    """Each part added alone, then all merged from left to right."""
    made = []
    for part in parts:
        made.append(Moments(part.shape[1]))
        made[-1].add(part)
    return functools.reduce(Moments.merge, made)


def pca_of(images: np.ndarray, count: int) -> Pca:
    return principal_components(moments_of(images), count, images.dtype.name)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 [1797, 64], some pixels of which are always 0."""
    return np.rint(load_digits().data * (255 / 16)).astype(np.uint8)


def equal(one: Moments, other: Moments) -> bool:
    sums = zip(one.total(), other.total(), strict=True)
    return one.count == other.count and all(a.tobytes() == b.tobytes() for a, b in sums)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_merge_is_associative_and_commutative(data):
    width = data.draw(st.integers(1, 5))
    a, b, c = (
        np.array(
            data.draw(st.lists(st.lists(st.integers(0, 255), min_size=width, max_size=width))),
            np.uint8,
        ).reshape(-1, width)
        for _ in range(3)
    )
    one, two, three = moments_of(a), moments_of(b), moments_of(c)
    assert equal(one.merge(two).merge(three), one.merge(two.merge(three)))
    assert equal(one.merge(two), two.merge(one))
    assert equal(one.merge(two).merge(three), moments_of(np.concatenate([c, a, b])))


def test_moments_are_those_of_integers(digits):
    moments, wide = moments_of(digits), digits.astype(np.int64)
    assert moments.count == 1797
    np.testing.assert_array_equal(moments.total().sums, wide.sum(axis=0))
    np.testing.assert_array_equal(moments.total().products, wide.T @ wide)


@pytest.fixture(scope="module")
def floats() -> np.ndarray:
    """float32 [700, 24] of very different lengths, two rows of zeros."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(700, 24)) @ rng.normal(size=(24, 24)) * rng.lognormal(size=(700, 1))
    rows[[5, 50]] = 0
    return rows.astype(np.float32)


def test_moments_of_floats_do_not_depend_on_order(floats):
    parts = [floats[start : start + 37] for start in range(0, len(floats), 37)]
    one, others = moments_of(floats), moments_of(*parts[::-1])
    assert equal(one, others)
    wide = floats.astype(np.float64)
    np.testing.assert_allclose(one.total().sums, wide.sum(axis=0), rtol=1e-4, atol=0.1)
    scale = (wide.T @ wide).max()
    np.testing.assert_allclose(one.total().products / scale, wide.T @ wide / scale, atol=1e-5)


def test_vectors_of_floats_do_not_depend_on_neighbours(floats):
    pca = pca_of(floats, 9)
    together = pca.apply(floats)
    assert np.concatenate([pca.apply(row[None]) for row in floats]).tobytes() == together.tobytes()
    expected = (floats.astype(np.float64) - pca.mean) @ pca.basis
    np.testing.assert_allclose(together, expected, rtol=1e-6, atol=1e-5)
    assert Pca.from_bytes(pca.to_bytes()).apply(floats[:3]).tobytes() == together[:3].tobytes()


def test_four_points_on_a_line():
    """(0, 0), (3, 4) · 10, 20, 30: all variance is along (0.6, 0.8)."""
    images = np.outer([0, 10, 20, 30], [3, 4]).astype(np.uint8)
    pca = pca_of(images, 2)
    np.testing.assert_allclose(pca.basis, [[0.6, 0], [0.8, 0]], atol=BASIS_STEP)
    np.testing.assert_array_equal(pca.mean, [45, 60])
    np.testing.assert_allclose(pca.variances * 255**2, [3125, 0], atol=1e-9)
    assert pca.variance_share == 1.0
    vectors = pca.apply(images)
    np.testing.assert_allclose(vectors[:, 0] * 255, [-75, -25, 25, 75], rtol=1e-6)
    assert (vectors[:, 1] == 0).all()


@pytest.mark.parametrize("count", [1, 10, 64])
def test_scikit_learn_finds_the_same(digits, count):
    ours, theirs = pca_of(digits, count), PCA(count, svd_solver="full").fit(digits / 255)
    vectors = theirs.transform(digits / 255)
    signs = np.sign((ours.apply(digits) * vectors).sum(axis=0))
    np.testing.assert_allclose(
        ours.apply(digits), vectors * signs, atol=5e-5
    )  # our mean is on a grid
    np.testing.assert_allclose(
        ours.variances, theirs.explained_variance_ * (1796 / 1797), rtol=1e-9, atol=1e-12
    )
    assert ours.variance_share == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-9)


def test_the_basis_is_the_same_however_images_lie(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    cut = moments_of(*np.array_split(digits[order], 7))
    one, other = pca_of(digits, 20), principal_components(cut, 20, "uint8")
    assert one.to_bytes() == other.to_bytes()


def test_vectors_are_the_same_whatever_block_they_are_in(digits):
    pca = pca_of(digits, 20)
    whole = pca.apply(digits)
    parts = [pca.apply(part) for part in np.split(digits, [1, 3, 10, 500])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert (whole.dtype, whole.shape) == (np.float32, (1797, 20))


def test_columns_are_orthonormal_and_their_farthest_entries_positive(digits):
    basis = pca_of(digits, 61).basis.astype(np.float64)  # three pixels are always 0
    np.testing.assert_allclose(basis.T @ basis, np.eye(61), atol=1e-6)
    assert (basis[np.abs(basis).argmax(axis=0), np.arange(61)] > 0).all()
    np.testing.assert_array_equal(basis, np.rint(basis / BASIS_STEP) * BASIS_STEP)


def test_all_components_keep_distances_and_give_the_images_back(digits):
    pca = pca_of(digits, 64)
    vectors = pca.apply(digits)
    np.testing.assert_allclose(pca.invert(vectors), digits / 255, atol=1e-6)
    apart = np.linalg.norm(digits[0] / 255 - digits[1:] / 255, axis=1)
    np.testing.assert_allclose(np.linalg.norm(vectors[0] - vectors[1:], axis=1), apart, rtol=1e-6)


def test_directions_without_variance_are_zero():
    images = np.full((9, 4), 7, np.uint8)
    pca = pca_of(images, 3)
    assert not pca.basis.any()
    assert pca.variance_share == 1.0
    np.testing.assert_allclose(pca.invert(pca.apply(images)), images / 255, rtol=1e-7)


def test_float_images_keep_their_units():
    images = np.random.default_rng(0).normal(5, 2, (200, 6)).astype(np.float32)
    pca = pca_of(images, 6)
    np.testing.assert_allclose(pca.invert(pca.apply(images)), images, rtol=1e-6, atol=1e-6)
    assert pca.total_variance == pytest.approx(images.astype(float).var(axis=0).sum(), rel=1e-6)


def test_a_file_holds_all_of_it(digits):
    pca = pca_of(digits, 5)
    again = Pca.from_bytes(pca.to_bytes())
    assert again.to_bytes() == pca.to_bytes()
    assert again.apply(digits).tobytes() == pca.apply(digits).tobytes()

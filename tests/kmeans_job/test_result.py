"""A result in a notebook: what it shows, what it says of new images, what it exports."""

import numpy as np
import pytest
import result_folder
from report_page import Page, decoded
from sklearn.datasets import load_digits

import kmeans_job
from pipeline.errors import UserError

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A result of digits whose labels have hostile names."""
    folder = tmp_path_factory.mktemp("digits")
    names = [HOSTILE, '"><img src=x onerror=alert(1)>', *map(str, range(2, 10))]
    result_folder.digits(folder, label_names=names)
    return kmeans_job.load_result(folder)


@pytest.fixture(scope="module")
def pixels():
    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def transformed(cpus, tmp_path_factory):
    """A result of the principal components of a few images of 8 × 8."""
    folder = tmp_path_factory.mktemp("pca")
    shards, output = folder / "shards", folder / "result"
    kmeans_job.shard("digits", shards, num_shards=1, transform="pca:6")
    return kmeans_job.fit(shards, output, 4, init="random", algorithm="lloyd", max_iterations=3)


def test_it_says_what_it_is(digits):
    inertia = f"{digits.metrics['inertia']:,.0f}"
    assert repr(digits) == (
        f"Result({digits.folder!r}: 10 clusters of 1,797 images, 8 iterations, inertia {inertia}, "
        f"purity {digits.metrics['purity']:.4f})"
    )
    assert digits.report == f"{digits.folder}/report.html"


def test_it_says_that_it_stopped_early(tmp_path):
    result_folder.embeddings(tmp_path, converged=False)
    said = repr(kmeans_job.load_result(tmp_path))
    assert said.endswith(", stopped before convergence)")
    assert "4 clusters of 200 images of 100 numbers" in said
    assert "purity" not in said


def test_a_notebook_shows_centroids_and_numbers(digits):
    cell = Page(digits._repr_html_())
    shown = cell.all("img")
    assert [image["alt"] for image in shown] == [f"Centroid of cluster {c}" for c in range(10)]
    drawn = np.rint(255 * digits.centroids.reshape(-1, 8, 8))
    for image, centroid in zip(shown, drawn, strict=True):
        np.testing.assert_array_equal(decoded(image["src"]), centroid)
    for name in ("inertia", "purity", "nmi"):
        value = digits.metrics[name]
        assert any(f"{value:,.0f}" in row or f"{value:.4f}" in row for row in cell.rows), name
    assert f"0 · {digits.metrics['cluster_sizes'][0]}" in cell.text
    assert digits.report in cell.text


def test_hostile_names_of_labels_are_text(digits):
    html = digits._repr_html_()
    assert "<script" not in html
    assert "<img src=x" not in html
    assert HOSTILE in Page(html).text


def test_a_notebook_shows_the_largest_of_many_clusters(tmp_path):
    random = np.random.default_rng(0)
    clusters = np.concatenate([np.arange(70), np.repeat(69, 30)])
    result_folder.write_result(tmp_path, random.random((100, 4)).astype("f4"), (4,), clusters)
    cell = Page(kmeans_job.load_result(tmp_path)._repr_html_())
    assert len(cell.all("path")) == 50  # vectors are lines
    assert "The 50 largest of 70 clusters." in cell.text
    assert "69 · 31" in cell.text


def test_a_cell_of_pictures_of_vectors(transformed):
    cell = Page(transformed._repr_html_())
    assert len(cell.all("img")) == 4
    assert decoded(cell.all("img")[0]["src"]).shape == (8, 8)


def test_predictions_are_the_assignments(transformed, pixels):
    table = transformed.assignments.sort_by("id")
    found = transformed.predict(pixels)
    assert found.dtype == np.int32
    assert found.tolist() == table["cluster"].to_pylist()
    assert transformed.predict(pixels[5:6].reshape(1, 64)).tolist() == found[5:6].tolist()


def test_predictions_of_other_arrays(digits, pixels):
    few = pixels[:20]
    expected = digits.predict(few).tolist()
    assert digits.predict(few.tolist()).tolist() == expected
    assert digits.predict(few.astype(np.int64).reshape(20, 64)).tolist() == expected
    assert digits.predict(few[:0]).shape == (0,)


def test_predictions_of_vectors(tmp_path):
    result_folder.embeddings(tmp_path)
    result = kmeans_job.load_result(tmp_path)
    assert result.predict(result.centroids.astype(np.float64)).tolist() == [0, 1, 2, 3]
    assert result.predict(np.zeros((1, 100), np.int8)).shape == (1,)
    with pytest.raises(UserError, match=r"predict/00001 has a pixel that is nan"):
        result.predict(np.array([[0.0] * 100, [np.nan] * 100]))


def test_images_of_another_kind_are_refused(digits, pixels):
    with pytest.raises(UserError, match=r"shape \(8, 8\); give one of shape \(n, 8, 8\) or"):
        digits.predict(pixels[0])
    with pytest.raises(UserError, match=r"float64, but these are clusters of uint8 .*np\.rint"):
        digits.predict(pixels / 255)
    with pytest.raises(UserError, match=r"int64 values 0 … 300"):
        digits.predict(np.array([[0] * 63 + [300]]))


def test_it_exports(transformed, tmp_path):
    assert transformed.export(tmp_path / "out", what="representatives") == 4
    assert (tmp_path / "out" / "representatives.csv").exists()
    with pytest.raises(UserError, match="holds a complete export"):
        transformed.export(tmp_path / "out", what="representatives")
    with pytest.raises(UserError, match="--what all: choose from clusters"):
        transformed.export(tmp_path / "all", what="all")
    with pytest.raises(TypeError, match="unknown option 'per_clusters': did you mean per_cluster"):
        transformed.export(tmp_path / "few", per_clusters=1)

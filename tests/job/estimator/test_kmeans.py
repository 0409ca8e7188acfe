"""The estimator by itself: parameters, methods, units, messages."""

import pickle
import subprocess
import sys

import joblib
import jobs
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kmeans_job
from kmeans_job import KMeans

RNG = np.random.default_rng(0)
BLOBS = np.concatenate([RNG.normal(size=(40, 3)) + 20 * center for center in np.eye(3)])


@pytest.fixture(scope="module")
def fitted(cpus) -> KMeans:
    return KMeans(3).fit(BLOBS)


def brute_force(X: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Squared distances [n, k], by definition."""
    return np.square(X.astype(np.float64)[:, None] - centers.astype(np.float64)).sum(axis=2)


def test_what_a_fit_leaves(fitted):
    assert sorted(np.bincount(fitted.labels_)) == [40, 40, 40]
    means = [BLOBS[fitted.labels_ == cluster].mean(axis=0) for cluster in range(3)]
    np.testing.assert_allclose(fitted.cluster_centers_, means, rtol=1e-6)
    squared = brute_force(BLOBS, fitted.cluster_centers_)
    np.testing.assert_array_equal(fitted.labels_, squared.argmin(axis=1))
    assert fitted.inertia_ == pytest.approx(squared.min(axis=1).sum(), rel=1e-12)
    assert fitted.labels_.dtype == np.int32
    assert fitted.n_features_in_ == 3
    assert fitted.n_iter_ == len(fitted.history_)
    assert fitted.history_[-1]["changed"] == 0


def test_methods_agree(fitted):
    np.testing.assert_array_equal(fitted.predict(BLOBS), fitted.labels_)
    np.testing.assert_array_equal(KMeans(3).fit_predict(BLOBS), fitted.labels_)
    distances = fitted.transform(BLOBS)
    np.testing.assert_allclose(
        distances, np.sqrt(brute_force(BLOBS, fitted.cluster_centers_)), rtol=1e-12
    )
    np.testing.assert_array_equal(KMeans(3).fit_transform(BLOBS), distances)
    assert fitted.score(BLOBS) == -fitted.inertia_
    assert fitted.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2"]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_results_are_in_the_units_of_the_array(cpus, dtype):
    X = np.array([[10, 0], [12, 0], [200, 100], [200, 104]], dtype)
    kmeans = KMeans(2).fit(X)
    order = np.argsort(kmeans.cluster_centers_[:, 0])
    expected = [[11, 0], [200, 102]]
    np.testing.assert_allclose(kmeans.cluster_centers_[order], expected, rtol=1e-6)
    assert kmeans.cluster_centers_.dtype == ("float32" if dtype == "float32" else "float64")
    assert kmeans.inertia_ == pytest.approx(10, rel=1e-6)
    assert kmeans.score(X) == -kmeans.inertia_
    distances = kmeans.transform(X)
    np.testing.assert_allclose(distances.min(axis=1), [1, 1, 2, 2], rtol=1e-5)
    assert distances.dtype == ("float32" if dtype == "float32" else "float64")
    for other in ("uint8", "int64", "float32", "float64"):
        Y = X.astype(other)
        np.testing.assert_array_equal(kmeans.predict(Y), kmeans.labels_)
        np.testing.assert_allclose(kmeans.transform(Y), distances, rtol=1e-5)
        assert kmeans.score(Y) == pytest.approx(-10, rel=1e-6)


def test_images_are_rows(cpus):
    images = RNG.integers(0, 256, (60, 4, 5, 3), dtype=np.uint8)
    flat = KMeans(4).fit(images.reshape(60, 60))
    for rows in (images, images.reshape(60, 4, 15)):
        kmeans = KMeans(4).fit(rows)
        assert kmeans.n_features_in_ == 60
        np.testing.assert_array_equal(kmeans.labels_, flat.labels_)
        np.testing.assert_array_equal(kmeans.predict(rows), flat.labels_)


def test_integers_are_bytes_where_they_fit(cpus):
    X = RNG.integers(0, 256, (60, 4))
    assert KMeans(3).fit(X).inertia_ == KMeans(3).fit(X.astype(np.uint8)).inertia_
    Y = X - 1000
    assert KMeans(3).fit(Y).inertia_ == KMeans(3).fit(Y.astype(np.float64)).inertia_


def test_float64_that_float32_would_spoil(cpus):
    """Seconds since 1970, of which float32 has one in 128."""
    seconds = 1.7e9 + np.concatenate([np.arange(20) % 3, 50 + np.arange(20) % 3])
    X = np.stack([seconds, np.zeros(40)], axis=1)
    kmeans = KMeans(2).fit(X)
    assert len({*kmeans.labels_[:20]}) == len({*kmeans.labels_[20:]}) == 1
    means = [X[kmeans.labels_ == cluster].mean(axis=0) for cluster in range(2)]
    np.testing.assert_allclose(kmeans.cluster_centers_, means, rtol=0, atol=1e-4)
    assert kmeans.inertia_ == pytest.approx(np.square(X - X[:20].mean(0))[:20].sum() * 2, rel=0.1)
    initial = KMeans(2, init=X[[0, 20]]).fit(X)
    np.testing.assert_array_equal(initial.labels_, [0] * 20 + [1] * 20)


def test_float64_that_is_float32_gives_the_same_bits(cpus):
    X = (RNG.normal(size=(300, 5)) + 1000).astype(np.float32)
    narrow, wide = KMeans(5).fit(X), KMeans(5).fit(X.astype(np.float64))
    assert narrow.cluster_centers_.dtype == np.float32
    np.testing.assert_array_equal(wide.cluster_centers_, narrow.cluster_centers_)
    assert wide.inertia_ == narrow.inertia_


def test_the_array_stays_as_it_is(cpus):
    for X in (BLOBS.astype(np.float32) + 100, np.abs(BLOBS).astype(np.uint8)):
        before = X.copy()
        KMeans(3).fit(X)
        np.testing.assert_array_equal(X, before)


def test_initial_centers_of_a_function(cpus):
    def first(X, n_clusters, random_state):
        assert isinstance(random_state, np.random.RandomState)
        return X[:n_clusters]

    expected = KMeans(3, init=BLOBS[:3]).fit(BLOBS)
    with pytest.warns(
        RuntimeWarning, match="performing only one init in KMeans instead of n_init=4"
    ):
        kmeans = KMeans(3, init=first, n_init=4).fit(BLOBS)
    assert kmeans.history_[0]["inertia"] == expected.history_[0]["inertia"]


def test_number_of_fits(cpus):
    def inertia(**parameters):
        return KMeans(6, **parameters).fit(BLOBS).inertia_

    assert inertia(init="random", n_init="auto") == inertia(init="random", n_init=10)
    assert inertia(init="random", n_init=10) <= inertia(init="random")
    assert inertia(n_init="auto") == inertia()


def test_random_states(cpus):
    def drawn(state):
        return KMeans(6, random_state=state, init="random").fit(BLOBS).cluster_centers_.tobytes()

    assert drawn(0) == drawn(np.int64(0))
    assert drawn(np.random.RandomState(1)) == drawn(np.random.RandomState(1))
    assert len({drawn(None) for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0: must be at least 1"),
        ({"n_clusters": 2.5}, "n_clusters=2.5: must be a whole number"),
        ({"n_clusters": 121}, "n_samples=120 should be >= n_clusters=121."),
        ({"init": "kmeans"}, "init=kmeans: choose from random, k-means++, k-means||, or give"),
        ({"init": BLOBS[:2]}, "initial centers (2, 3) does not match the number of clusters 8."),
        ({"init": BLOBS[:8, :2]}, "(8, 2) does not match the number of features of the data 3."),
        ({"n_init": 0}, "n_init=0: must be at least 1"),
        ({"max_iter": 0}, "max_iter=0: must be at least 1"),
        ({"tol": -1}, "tol=-1.0: must be at least 0"),
        ({"algorithm": "elkan"}, "algorithm=elkan: choose from auto, lloyd, hamerly"),
        ({"random_state": "x"}, "random_state=x: must be a whole number"),
        ({"replicas": 0}, "replicas=0: must be at least 1"),
    ],
)
def test_wrong_parameters(cpus, parameters, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        KMeans(**parameters).fit(BLOBS)
    assert message in str(raised.value)


BYTES = np.abs(BLOBS).astype(np.uint8)


@pytest.mark.parametrize(
    ("X", "message", "parameters"),
    [
        (np.repeat(BLOBS[:2], 9, axis=0), "n_clusters=8: the set has only 2 distinct images", {}),
        (
            BYTES,
            "init: values 0 … 256, but those of uint8 rows lie in 0 … 255",
            {"n_clusters": 2, "init": [[0, 0, 0], [0, 256, 0]]},
        ),
        (BLOBS, "init: values up to", {"n_clusters": 2, "init": BLOBS[:2] * 1e30}),
        (BLOBS * 1e300, "e+301, which float32 cannot hold; divide the array by its largest", {}),
        (BLOBS * 1e-40, "X: no value is larger than 1e-31, where float32 ends; multiply", {}),
        ((BLOBS * 1e-35).astype(np.float32), "X: no value is larger than", {}),
        ((BLOBS * 1e37).astype(np.float32), "X: an image of norm", {}),
        (np.full((9, 2), np.nan), "Input X contains NaN", {}),
        (np.zeros((9, 2, 2, 2, 2)), "Found array with dim 5", {}),
    ],
)
def test_wrong_arrays(cpus, X, message, parameters):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        KMeans(**parameters).fit(X)
    assert message in str(raised.value)


def test_before_and_after(fitted):
    with pytest.raises(NotFittedError):
        KMeans().predict(BLOBS)
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3"):
        fitted.predict(BLOBS[:, :2])
    with pytest.warns(ConvergenceWarning, match="not converged after max_iter=1 iterations"):
        KMeans(8, max_iter=1).fit(BLOBS)


def test_progress(cpus, capsys):
    KMeans(3).fit(BLOBS)
    assert capsys.readouterr() == ("", "")
    KMeans(3, verbose=1).fit(BLOBS)
    assert "inertia" in capsys.readouterr().err


def test_a_pipeline_and_a_search(cpus):
    steps = make_pipeline(StandardScaler(), KMeans(3))
    labels = steps.fit_predict(BLOBS)
    assert sorted(np.bincount(labels)) == [40, 40, 40]
    search = GridSearchCV(steps, {"kmeans__n_clusters": [1, 2, 3]}, cv=2).fit(
        RNG.permutation(BLOBS)
    )
    assert search.best_params_ == {"kmeans__n_clusters": 3}


def test_copies(fitted):
    fresh = clone(fitted)
    assert not hasattr(fresh, "labels_")
    assert fresh.fit(BLOBS).inertia_ == fitted.inertia_


def test_stored_and_loaded(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "kmeans.joblib")
    for again in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "kmeans.joblib")):
        assert vars(again).keys() == vars(fitted).keys()
        np.testing.assert_array_equal(again.predict(BLOBS), fitted.labels_)
    # Whoever only applies it needs no TensorFlow.
    code = f"import joblib, sys; k = joblib.load({str(tmp_path / 'kmeans.joblib')!r})\n"
    code += "print(k.predict(k.cluster_centers_).tolist(), 'tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 1, 2] False\n"


def test_frames_in_frames_out(cpus):
    frame = pd.DataFrame(BLOBS, columns=["a", "b", "c"])
    kmeans = KMeans(3).set_output(transform="pandas").fit(frame)
    assert kmeans.feature_names_in_.tolist() == ["a", "b", "c"]
    made = kmeans.transform(frame)
    assert made.columns.tolist() == ["kmeans0", "kmeans1", "kmeans2"]
    assert made.index.equals(frame.index)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        kmeans.predict(BLOBS)


def test_what_a_notebook_shows(fitted):
    assert "sk-top-container" in KMeans(3)._repr_html_()  # scikit-learn's own, before the fit
    shown = fitted._repr_html_()
    assert "<strong>3 clusters of 120 images of 3 numbers</strong>" in shown
    assert shown.count("<svg") == 3
    assert shown.count(" · 40<") == 3
    assert ">Inertia</th>" in shown
    assert "<code>KMeans(n_clusters=3)</code>" in shown
    assert "stopped before convergence" not in shown
    assert fitted._repr_mimebundle_()["text/html"] == shown


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_centers_of_images_are_pictures(cpus, dtype):
    images = RNG.integers(0, 256, (60, 4, 5)).astype(dtype)
    with pytest.warns(ConvergenceWarning):
        shown = KMeans(4, max_iter=1).fit(images)._repr_html_()
    assert "<strong>4 clusters of 60 images</strong>, 1 iterations, stopped before" in shown
    assert shown.count('<img src="data:image/png;base64,') == 4


def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None\nimport kmeans_job\nkmeans_job.fit\n"
    code += "try:\n    kmeans_job.KMeans\nexcept ImportError as error:\n    print(error)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "KMeans needs scikit-learn 1.6 or later: pip install 'kmeans-job[sklearn]' (in a checkout: "
        "pip install '.[sklearn]')\n"
    )


def test_other_names():
    with pytest.raises(AttributeError, match="module 'kmeans_job' has no attribute 'KMean'"):
        _ = kmeans_job.KMean

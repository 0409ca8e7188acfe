"""Metrics against scikit-learn, by hand, and where the definitions run out."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics as reference

from job.result import agreement, metrics

# Three clusters of four images: one pure, one three to one, one even.
BY_HAND = np.array([[4, 0, 0], [0, 3, 1], [0, 2, 2]])

tables = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    elements=st.integers(0, 30),
).filter(lambda table: table.any())


def members(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and labels, int64 [n] each, of as many images as a contingency table counts."""
    clusters, labels = np.indices(table.shape)
    return np.repeat(clusters, table.ravel()), np.repeat(labels, table.ravel())


@settings(deadline=None)
@given(tables)
def test_metrics_equal_scikit_learn(table):
    clusters, labels = members(table)
    ours = metrics.label_metrics(table)
    homogeneity, completeness, nmi = reference.homogeneity_completeness_v_measure(labels, clusters)
    assert ours["homogeneity"] == pytest.approx(homogeneity, abs=1e-9)
    assert ours["completeness"] == pytest.approx(completeness, abs=1e-9)
    assert ours["nmi"] == pytest.approx(nmi, abs=1e-9)
    nmi = reference.normalized_mutual_info_score(labels, clusters)
    assert ours["nmi"] == pytest.approx(nmi, abs=1e-9)
    assert ours["ari"] == pytest.approx(reference.adjusted_rand_score(labels, clusters), abs=1e-9)


@settings(deadline=None)
@given(tables)
def test_purity_and_accuracy_equal_their_definitions_over_images(table):
    clusters, labels = members(table)
    majority = {c: np.bincount(labels[clusters == c]).argmax() for c in set(clusters)}
    hits = labels == np.array([majority[c] for c in clusters])
    shares = [hits[clusters == c].mean() for c in majority]
    ours = metrics.label_metrics(table)
    assert ours["purity"] == pytest.approx(np.mean(shares))
    assert ours["purity_weighted"] == pytest.approx(hits.mean())
    # A matching is one choice of a majority at best, and at least its largest cell.
    assert table.max() / table.sum() <= ours["accuracy"] <= ours["purity_weighted"]


@given(tables)
def test_metrics_do_not_depend_on_the_order_of_clusters_or_labels(table):
    ours = metrics.label_metrics(table)
    assert metrics.label_metrics(table[::-1, ::-1]) == pytest.approx(ours)


@given(tables)
def test_empty_clusters_and_unused_labels_change_nothing(table):
    padded = np.pad(table, ((0, 2), (0, 1)))
    assert metrics.label_metrics(padded) == pytest.approx(metrics.label_metrics(table))


@given(tables)
def test_homogeneity_of_a_table_is_completeness_of_its_transpose(table):
    ours, other = metrics.label_metrics(table), metrics.label_metrics(table.T)
    assert ours["homogeneity"] == pytest.approx(other["completeness"], abs=1e-12)
    assert [ours[name] for name in ("nmi", "ari", "accuracy")] == pytest.approx(
        [other[name] for name in ("nmi", "ari", "accuracy")], abs=1e-12
    )


def test_the_cosine_distance_of_unit_vectors():
    angles = np.array([0.1, 0.4, 1.2, 2.0, 2.1])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    clusters = np.array([0, 0, 0, 1, 1])
    centroids = np.array([vectors[clusters == c].mean(axis=0) for c in range(2)])
    inertia = np.square(vectors - centroids[clusters]).sum()
    sums = SimpleNamespace(counts=np.array([3, 2]), distances=np.ones(2), silhouettes=np.ones(()))
    found = metrics.all_metrics(metrics.Facts(sums, centroids, inertia, True), labelled=False)
    apart = 1 - vectors @ vectors.T
    within = [apart[np.ix_(own, own)].mean() for own in (clusters == 0, clusters == 1)]
    # Half the mean over pairs within clusters, as the docs say.
    assert found["cosine_distance"] == pytest.approx(np.average(within, weights=[3, 2]) / 2)
    weighed = metrics.Facts(sums, centroids, 4 * inertia, True, weight=20.0)
    assert metrics.cosine_distance(weighed) == pytest.approx(found["cosine_distance"])
    other = metrics.all_metrics(metrics.Facts(sums, centroids, inertia), labelled=False)
    assert other["cosine_distance"] is None
    values = {"transform": {"spec": "pca:2,unit"}, "contingency": None, **found}
    assert "cosine_distance" in [metric.name for metric in metrics.present(values)]
    values = {"transform": None, "contingency": None, **other}
    assert "cosine_distance" not in [metric.name for metric in metrics.present(values)]


def test_by_hand():
    ours = metrics.label_metrics(BY_HAND)
    assert tuple(ours) == metrics.LABEL_METRICS
    assert ours["purity"] == pytest.approx((1 + 3 / 4 + 2 / 4) / 3)
    assert ours["purity_weighted"] == pytest.approx(9 / 12)
    assert ours["accuracy"] == pytest.approx((4 + 3 + 2) / 12)
    # Pairs: 6 + 3 + 1 + 1 together; 18 in clusters; 6 + 10 + 3 in labels; 66 in all.
    assert ours["ari"] == pytest.approx((11 - 18 * 19 / 66) / ((18 + 19) / 2 - 18 * 19 / 66))


def test_clusters_of_unequal_size_part_the_two_purities():
    ours = metrics.label_metrics(np.array([[90, 0], [5, 5]]))
    assert (ours["purity"], ours["purity_weighted"]) == pytest.approx((0.75, 0.95))


def test_accuracy_takes_the_best_matching_not_the_greedy_one():
    # Greedy takes 10, and 1 is left; the other diagonal holds 9 + 8.
    assert agreement.accuracy(np.array([[10, 9], [8, 1]])) == pytest.approx(17 / 28)


@pytest.mark.parametrize("table", [np.eye(4, dtype=np.int64) * 7, np.array([[0, 5], [3, 0]])])
def test_a_perfect_clustering_scores_one_everywhere(table):
    assert metrics.label_metrics(table) == pytest.approx(dict.fromkeys(metrics.LABEL_METRICS, 1.0))


@pytest.mark.parametrize(
    ("table", "homogeneity", "completeness", "nmi", "ari", "accuracy"),
    [
        ([[3, 3]], 0, 1, 0, 0, 0.5),  # k = 1: nothing is told apart
        ([[3], [3]], 1, 0, 0, 0, 0.5),  # one label, which two clusters split
        ([[6]], 1, 1, 1, 1, 1),  # one cluster of one label
        ([[1]], 1, 1, 1, 1, 1),  # one image: no pair to agree on
        ([[1, 0], [0, 1]], 1, 1, 1, 1, 1),  # each image alone
        ([[2, 2], [2, 2]], 0, 0, 0, -1 / 6, 0.5),  # independent: below what chance gives
        ([[3, 0], [3, 0], [0, 6]], 1, 2 / 3, 0.8, 28 / 39, 0.75),  # k > labels
    ],
)
def test_degenerate_tables(table, homogeneity, completeness, nmi, ari, accuracy):
    ours = metrics.label_metrics(np.array(table))
    assert ours["homogeneity"] == pytest.approx(homogeneity, abs=1e-12)
    assert ours["completeness"] == pytest.approx(completeness, abs=1e-12)
    assert ours["nmi"] == pytest.approx(nmi, abs=1e-12)
    assert ours["ari"] == pytest.approx(ari)
    assert ours["accuracy"] == pytest.approx(accuracy)


def test_an_unlabelled_set_has_the_names_without_values():
    assert metrics.label_metrics(None) == dict.fromkeys(metrics.LABEL_METRICS)
    assert metrics.label_metrics(np.zeros((3, 2), np.int64)) == dict.fromkeys(metrics.LABEL_METRICS)


def test_a_hundred_billion_images_do_not_overflow():
    ours = metrics.label_metrics(BY_HAND * 10**10)
    # Of so many images pairs are as good as squares: 34 together, 48 and 50 on the sides, of 144.
    assert ours["ari"] == pytest.approx((34 - 48 * 50 / 144) / (49 - 48 * 50 / 144), rel=1e-9)
    # Of a million, whose pairs fit into 64 bits, every metric is nearly the same.
    assert ours == pytest.approx(metrics.label_metrics(BY_HAND * 10**5), rel=1e-4)

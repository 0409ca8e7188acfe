"""findings.json against brute force in float64, on images with planted findings."""

import numpy as np
import pytest
from found import by_force, rounded

from job.result import findings
from job.result.findings import Noted, Rows

K, SIDE, N = 10, 8, 3_000
NUM_OUTLIERS, NUM_GROUPS, NUM_SINGLETONS, NUM_FLIPPED = 20, 15, 3, 30


@pytest.fixture(scope="module")
def planted():
    """Images around ten means, labels, initial centroids, and the rows of what is planted."""
    random = np.random.default_rng(7)
    means = random.integers(60, 190, (K, SIDE * SIDE))
    groups = np.arange(N) % K
    pixels = np.clip(means[groups] + random.normal(0, 12, (N, SIDE * SIDE)), 0, 255).astype(
        np.uint8
    )
    labels = groups.copy()
    outliers = random.choice(N, NUM_OUTLIERS, replace=False)
    for rank, row in enumerate(outliers):  # nearer and nearer to the mean of their group
        signs = random.choice([-1, 1], SIDE * SIDE)  # so that no other mean is nearer
        pixels[row] = means[groups[row]] + signs * round(60 / 1.06**rank)
    rest = np.setdiff1d(np.arange(N), outliers)
    flipped = random.choice(rest, NUM_FLIPPED, replace=False)
    labels[flipped] = (labels[flipped] + 1) % K
    same = random.choice(np.setdiff1d(rest, flipped), 2 * NUM_GROUPS, replace=False)
    for one, other in same.reshape(-1, 2):
        pixels[other], labels[other] = pixels[one], labels[one]
    singletons = np.where(np.arange(SIDE * SIDE) % 4 == np.arange(NUM_SINGLETONS)[:, None], 255, 0)
    pixels = np.concatenate([pixels, singletons.astype(np.uint8)])
    labels = np.concatenate([labels, np.arange(NUM_SINGLETONS)])
    init = np.concatenate([means, singletons]) / 255
    return pixels, labels.astype(np.int64), init.astype(np.float32), outliers, same, flipped


def test_planted_findings_are_found_in_order_with_the_same_bytes_wherever_images_lie(
    planted, make_shards, fit
):
    pixels, labels, init, outliers, same, flipped = planted
    shards = make_shards(pixels.reshape(-1, SIDE, SIDE), labels=labels, num_shards=1)
    one = fit(shards, len(init), init=init)
    ids = one.rows["id"].to_pylist()
    text = (one.folder / "findings.json").read_bytes()
    found = findings_of(one)
    assert rounded(found) == rounded(by_force(ids, pixels, labels, one.centroids))
    unusual = [outlier["id"] for outlier in found["outliers"]]
    assert unusual[:NUM_OUTLIERS] == [ids[row] for row in outliers]
    assert {tuple(group) for group in found["duplicates"]} == {
        tuple(sorted((ids[a], ids[b]))) for a, b in same.reshape(-1, 2)
    }
    assert found["singletons"] == [10, 11, 12]
    assert {suspect["id"] for suspect in found["suspects"]} == {ids[row] for row in flipped}
    order = np.random.default_rng(1).permutation(len(pixels))
    many = make_shards(
        pixels.reshape(-1, SIDE, SIDE), labels=labels, num_shards=5, order=order, block_rows=77
    )
    for options in ({"replicas": 2}, {"memory": "stream"}):
        other = fit(many, len(init), init=init, **options)
        assert (other.folder / "findings.json").read_bytes() == text


def findings_of(result) -> dict:
    from job.result.read import read_findings

    return read_findings(str(result.folder))


def rows_of(distances, clusters=None, labels=None, digests=None) -> Rows:
    """Rows with the given columns; what is not given is the same for all, but for the pixels."""
    n = len(distances)
    own = np.arange(n) if digests is None else np.array(digests)
    noted = Noted(np.full(n, 0.5, np.float32), np.stack([own, own], axis=1).astype(np.uint64))
    return Rows(
        np.zeros(n, np.int32) if clusters is None else np.array(clusters, np.int32),
        np.array(distances, np.float32),
        np.full(n, -1, np.int32) if labels is None else np.array(labels, np.int32),
        noted,
    )


def find(rows: Rows, k: int = 1, names=None) -> dict:
    return findings.find(
        rows, lambda wanted: [f"{row:05d}" for row in wanted], np.zeros((k, 2)), names, {}
    ).findings


def test_one_unlabelled_cluster_has_no_neighbour_and_no_label():
    (about,) = find(rows_of([1.0, 2.0, 6.0]))["clusters"]
    assert about == {
        "cluster": 0,
        "size": 3,
        "mean_distance": 3.0,
        "max_distance": 6.0,
        "silhouette": 0.5,
        "nearest_cluster": None,
        "majority_label": None,
        "majority_share": None,
        "representative": "00000",
    }


def test_an_empty_cluster_is_described_without_figures():
    one, empty = find(rows_of([1.0, 2.0]), k=2)["clusters"]
    assert (one["size"], empty["size"]) == (2, 0)
    assert empty["mean_distance"] is empty["representative"] is None


def test_where_most_images_lie_on_the_centroid_scores_are_finite():
    found = find(rows_of([0.0, 0.0, 0.0, 4.0]))
    assert [(o["id"], o["score"]) for o in found["outliers"]] == [("00003", 4.0)]


def test_ties_are_decided_by_id_also_at_the_end_of_a_list(monkeypatch):
    monkeypatch.setattr(findings, "MAX_OUTLIERS", 3)
    found = find(rows_of([1.0] * 9 + [4.0] * 5 + [5.0]))
    assert [o["id"] for o in found["outliers"]] == ["00014", "00009", "00010"]


def test_groups_of_the_same_pixels_are_largest_first_and_cut(monkeypatch):
    monkeypatch.setattr(findings, "MAX_GROUPS", 2)
    monkeypatch.setattr(findings, "MAX_GROUP_IDS", 2)
    found = find(rows_of([1.0] * 9, digests=[5, 1, 5, 2, 1, 2, 2, 8, 9]))
    assert found["duplicates"] == [["00003", "00005"], ["00000", "00002"]]
    assert (found["num_duplicate_groups"], found["num_duplicates"]) == (3, 4)


def test_half_of_a_digest_makes_no_duplicates():
    rows = rows_of([1.0] * 6)
    rows.noted.digests[:] = [[7, 1], [7, 2], [3, 1], [7, 1], [0, 1], [7, 3]]
    found = find(rows)
    assert found["duplicates"] == [["00000", "00003"]]
    rows.noted.digests[3] = [7, 0]
    assert find(rows)["num_duplicate_groups"] == 0


def test_a_label_is_suspect_only_in_a_cluster_of_nearly_one_label():
    labels = [0] * 9 + [1] + [0] * 8 + [1, 1] + [-1]
    rows = rows_of([1.0] * 21, clusters=[0] * 10 + [1] * 11, labels=labels)
    found = find(rows, k=2, names=["cat", "dog"])
    assert found["suspects"] == [
        {"id": "00009", "label": "dog", "cluster": 0, "majority_label": "cat"}
    ]

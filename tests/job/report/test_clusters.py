"""What the page says about clusters: room for members, names of labels, neighbours."""

import numpy as np
import result_folder

from job.report import clusters
from job.result.read import load_result


def test_the_members_shown_go_from_near_to_far_and_back():
    examples = {
        "kinds": np.array(["nearest", "nearest", "farthest", "farthest"]),
        "clusters": np.zeros(4, int),
        "distances": np.array([2.0, 1.0, 8.0, 9.0]),
        "ids": np.array(["b", "a", "c", "d"]),
    }
    found = clusters.shown(examples, 1)
    assert sorted(found["ids"][found["kinds"] == "nearest"]) == ["a", "b"]
    assert found["ids"][found["kinds"] == "nearest"].tolist() == ["a", "b"]
    assert found["ids"][found["kinds"] == "farthest"].tolist() == ["d", "c"]


def test_names_of_labels_are_their_numbers_where_none_are_given():
    table = np.zeros((2, 3), np.int64)
    assert clusters.shown_label_names(None, table) == ["0", "1", "2"]
    assert clusters.shown_label_names(["cat"], table) == ["cat", "1", "2"]
    assert clusters.shown_label_names(["cat"], None) == []


def test_neighbours_and_close_pairs_by_hand(tmp_path):
    centroids = np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 3.0]], np.float32)
    assert clusters.most_similar(centroids) == [(1, 3.0), (0, 3.0), (1, 4.0)]
    assert clusters.most_similar(centroids[:1]) == [None]
    metrics = result_folder.digits(tmp_path)
    described = clusters.describe(load_result(str(tmp_path)), None, [])
    assert [c.size for c in described] == metrics["cluster_sizes"]
    pairs = clusters.close_pairs(described)
    assert len(pairs) <= clusters.MAX_CLOSE
    assert pairs == sorted(pairs, key=lambda pair: pair[2])
    assert all(one < other for one, other, _ in pairs)

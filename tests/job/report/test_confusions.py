"""The report's words and its heat map against the contingency table."""

import re

import numpy as np
import pytest
import result_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from report_page import Page, page_of

from job.report import confusions

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def words_of(page: Page) -> tuple[dict, dict, set]:
    """Merged labels by cluster, clusters by split label and hidden labels, as the page says."""
    merges, splits, hidden = {}, {}, set()
    for item in page.items:
        if found := re.match(r" ?Cluster (\d+) merges (.*) \(", item):
            merges[int(found[1])] = re.split(", | and ", found[2])
        elif found := re.match(r" ?K-means splits (.*) in (.*): clusters ([\d, and]+)", item):
            splits[found[1]] = [int(c) for c in re.findall(r"\d+", found[3])]
            assert found[2] == NUMBERS[len(splits[found[1]])]
        elif found := re.match(r" ?No cluster is mostly (.*); most of it", item):
            hidden.add(found[1])
    return merges, splits, hidden


def confusions_of(contingency: list[list[int]]) -> tuple[dict, dict, set]:
    """The same from the contingency table, in the words of the rule."""
    merges, splits = {}, {}
    for cluster, counts in enumerate(contingency):
        large = [label for label, count in enumerate(counts) if 4 * count >= sum(counts)]
        if len(large) > 1:
            merges[cluster] = [str(v) for v in sorted(large, key=lambda v: -counts[v])]
        splits.setdefault(str(counts.index(max(counts))), []).append(cluster)
    hidden = {str(label) for label in range(len(contingency[0]))} - set(splits)
    return merges, {label: own for label, own in splits.items() if len(own) > 1}, hidden


def check_words(metrics: dict, page: Page) -> None:
    merges, splits, hidden = words_of(page)
    expected = confusions_of(metrics["contingency"])
    assert merges == expected[0]
    assert {label: sorted(own) for label, own in splits.items()} == expected[1]
    assert hidden == expected[2]


@pytest.mark.parametrize("num_clusters", [5, 10, 14])
def test_the_words_name_the_confusions_of_the_contingency_table(tmp_path, num_clusters):
    metrics = result_folder.digits(tmp_path, num_clusters)
    check_words(metrics, page_of(tmp_path))


def test_the_words_of_mnist_are_those_of_its_table(tmp_path):
    metrics = result_folder.mnist(tmp_path, 10)
    assert any(confusions_of(metrics["contingency"]))
    check_words(metrics, page_of(tmp_path))


def test_merges_splits_and_hidden_labels_by_hand():
    table = np.array([[60, 40, 0, 0], [0, 0, 30, 0], [0, 0, 70, 24], [5, 0, 0, 0]])
    found = confusions.find(table, ["8", "3", "1", "7"])
    assert found.merges == [
        confusions.Merge(0, ["8", "3"], [0.6, 0.4]),
        confusions.Merge(2, ["1", "7"], [70 / 94, 24 / 94]),
    ]
    assert found.splits == [
        confusions.Split("8", [0, 3], [60 / 65, 5 / 65]),
        confusions.Split("1", [2, 1], [0.7, 0.3]),
    ]
    assert found.hidden == [confusions.Hidden("3", 0, 1.0), confusions.Hidden("7", 2, 1.0)]


@pytest.mark.parametrize(("second", "merges"), [(25, True), (24, False)])
def test_a_quarter_of_a_cluster_merges_and_less_does_not(second, merges):
    table = np.array([[100 - second, second]])
    assert bool(confusions.find(table, ["a", "b"]).merges) == merges


@settings(deadline=None)
@given(
    npst.arrays(
        np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 9)
    )
)
def test_every_label_with_images_is_a_majority_once_split_or_hidden(table):
    names = [str(label) for label in range(table.shape[1])]
    found = confusions.find(table, names)
    majorities = [int(row.argmax()) for row in table if row.any()]
    for label, total in enumerate(table.sum(axis=0)):
        times = majorities.count(label)
        assert (names[label] in [s.label for s in found.splits]) == (times > 1)
        assert (names[label] in [h.label for h in found.hidden]) == (times == 0 and total > 0)


def test_the_heat_map_is_the_table_in_the_order_of_majority_labels(tmp_path):
    metrics, page = result_folder.digits(tmp_path), page_of(tmp_path)
    head = page.rows.index(["Cluster", *map(str, range(10)), "All"])
    rows = [[int(cell.replace(",", "")) for cell in row] for row in page.rows[head + 1 : head + 11]]
    for cluster, *counts, total in rows:
        assert counts == metrics["contingency"][cluster]
        assert total == metrics["cluster_sizes"][cluster]
    majorities = [counts.index(max(counts)) for _, *counts, _ in rows]
    assert majorities == sorted(majorities)
    assert sorted(row[0] for row in rows) == list(range(10))

"""The report's words and its heat map against the contingency table."""

import re
from typing import NamedTuple

import numpy as np
import pytest
import result_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from report_page import Page, page_of

from job.report import confusions
from job.report.formatting import SMALL_NUMBERS, percent

NUMBERS = {name.capitalize(): number for number, name in enumerate(SMALL_NUMBERS)}
PERCENT = r"((?:[<>] )?[\d.]+) %"


class Words(NamedTuple):
    """What the sentences of a page say, each as (names, numbers, shares as they are written)."""

    merges: dict[int, list[tuple[str, str]]]
    splits: dict[str, tuple[list[int], list[str]]]
    hidden: dict[str, tuple[bool, int, str]]


def words_of(page: Page) -> Words:
    """Reads the sentences; fails on one of a form that it does not know."""
    said = Words({}, {}, {})
    for item in page.items:
        item = item.strip()
        if found := re.match(r"Cluster (\d+) merges (.*) \((.*) of it\)$", item):
            labels = re.split(", | and ", found[2])
            said.merges[int(found[1])] = list(
                zip(labels, re.findall(PERCENT, found[3]), strict=True)
            )
        elif found := re.match(
            r"(\w+) clusters are mostly (.*?): (.*) \((.*) of the label\)$", item
        ):
            clusters = [int(c) for c in re.findall(r"\d+", found[3])]
            assert NUMBERS[found[1]] == len(clusters)
            said.splits[found[2]] = clusters, re.findall(PERCENT, found[4])
        elif found := re.match(
            r"No cluster is mostly (.*); (most|the largest part) of it is in cluster (\d+) "
            rf"\({PERCENT} of the label\)$",
            item,
        ):
            said.hidden[found[1]] = found[2] == "most", int(found[3]), found[4]
        else:
            assert "mostly" not in item
            assert "merges" not in item
    return said


def written(part: int, whole: int) -> str:
    """A share as a page writes it, without its sign."""
    return percent(part / whole).replace("\u00a0%", "")


def words_for(table: list[list[int]]) -> Words:
    """What there is to say of a contingency table, in the words of the rules."""
    expected = Words({}, {}, {})
    for cluster, counts in enumerate(table):
        size = sum(counts)
        large = [label for label, count in enumerate(counts) if size and 4 * count >= size]
        if len(large) > 1:
            large.sort(key=lambda label: -counts[label])
            expected.merges[cluster] = [(str(v), written(counts[v], size)) for v in large]
    for label, parts in enumerate(zip(*table, strict=True)):
        mostly = [c for c, counts in enumerate(table) if 2 * counts[label] > sum(counts)]
        mostly.sort(key=lambda c: -parts[c])
        if len(mostly) > 1:
            own = [parts[c] for c in mostly]
            shares = own if len(own) <= 3 else [sum(own)]
            expected.splits[str(label)] = mostly, [written(v, sum(parts)) for v in shares]
        elif not mostly and any(parts):
            most = max(parts)
            expected.hidden[str(label)] = (
                2 * most > sum(parts),
                parts.index(most),
                written(most, sum(parts)),
            )
    return expected


@pytest.mark.parametrize("num_clusters", [5, 10, 14])
def test_the_words_name_the_confusions_of_the_contingency_table(tmp_path, num_clusters):
    metrics = result_folder.digits(tmp_path, num_clusters)
    assert words_of(page_of(tmp_path)) == words_for(metrics["contingency"])


def test_the_words_of_mnist_are_those_of_its_table(tmp_path):
    metrics = result_folder.mnist(tmp_path, 10)
    assert any(words_for(metrics["contingency"]))
    assert words_of(page_of(tmp_path)) == words_for(metrics["contingency"])


@settings(deadline=None, max_examples=25)
@given(
    npst.arrays(
        np.int64, st.tuples(st.integers(1, 7), st.integers(1, 5)), elements=st.integers(0, 9)
    )
)
def test_the_words_of_random_tables_say_what_the_numbers_say(new_folder, table):
    if not table.any():
        return
    table = table[table.any(axis=1)][:, table.any(axis=0)]  # as the table of a result is
    clusters, labels = np.nonzero(table)
    repeated = np.repeat(np.arange(len(clusters)), table[clusters, labels])
    pixels = np.zeros((len(repeated), 4), np.uint8)
    folder = new_folder()
    result_folder.write_result(folder, pixels, (2, 2), clusters[repeated], labels[repeated])
    assert words_of(page_of(folder)) == words_for(table.tolist())


def test_merges_splits_and_hidden_labels_by_hand():
    table = np.array([[60, 40, 0, 0], [0, 0, 30, 0], [0, 0, 70, 24], [5, 0, 0, 0]])
    found = confusions.find(table, ["8", "3", "1", "7"])
    assert found.merges == [
        confusions.Merge(0, ["8", "3"], [0.6, 0.4]),
        confusions.Merge(2, ["1", "7"], [70 / 94, 24 / 94]),
    ]
    assert found.splits == [
        confusions.Split("8", [0, 3], [60 / 65, 5 / 65], 1.0),
        confusions.Split("1", [2, 1], [0.7, 0.3], 1.0),
    ]
    assert found.hidden == [confusions.Hidden("3", 0, 1.0), confusions.Hidden("7", 2, 1.0)]


def test_half_a_cluster_is_no_majority_and_a_fifth_of_a_label_is_not_most_of_it():
    table = np.array([[50, 50], [60, 40], [60, 40], [30, 70]])
    assert confusions.majorities(table).tolist() == [-1, 0, 0, 1]
    table = np.array([[1, 9], [1, 9], [1, 9], [2, 9]])
    (hidden,) = confusions.find(table, ["a", "b"]).hidden
    assert (hidden.label, hidden.cluster, hidden.is_most) == ("a", 3, False)


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
def test_every_label_with_images_has_a_majority_once_split_or_hidden(table):
    names = [str(label) for label in range(table.shape[1])]
    found = confusions.find(table, names)
    majorities = [int(row.argmax()) for row in table if 2 * row.max() > row.sum()]
    for label, total in enumerate(table.sum(axis=0)):
        times = majorities.count(label)
        assert (names[label] in [s.label for s in found.splits]) == (times > 1)
        assert (names[label] in [h.label for h in found.hidden]) == (times == 0 and total > 0)


def test_the_heat_map_is_the_table_in_the_order_of_common_labels(tmp_path):
    metrics, page = result_folder.digits(tmp_path), page_of(tmp_path)
    head = page.rows.index(["Cluster", *map(str, range(10)), "All"])
    rows = [[int(cell.replace(",", "")) for cell in row] for row in page.rows[head + 1 : head + 11]]
    for cluster, *counts, total in rows:
        assert counts == metrics["contingency"][cluster]
        assert total == metrics["cluster_sizes"][cluster]
    majorities = [counts.index(max(counts)) for _, *counts, _ in rows]
    assert majorities == sorted(majorities)
    assert sorted(row[0] for row in rows) == list(range(10))

"""A plugin of pytest that puts our KMeans in the place of scikit-learn's, in its own tests.

It leaves out what is about another class or function, and writes the outcome of each test to the
file that OUTCOMES names.
"""

import inspect
import json
import os
from typing import Any

import pytest
import sklearn.cluster

from kmeans_job import KMeans as Ours

ALGORITHMS = {"elkan": "hamerly"}


class KMeans(Ours):
    """Ours, which also knows the names of scikit-learn's algorithms."""

    def fit(self, X: Any, y: Any = None, **options: Any) -> "KMeans":
        given = self.algorithm
        self.algorithm = ALGORITHMS.get(given, given)
        try:
            return super().fit(X, y, **options)
        finally:
            self.algorithm = given


sklearn.cluster.KMeans = KMeans  # before the tests are collected, which take it from there

_outcomes: dict[str, str] = {}


def is_about_kmeans(item: pytest.Item) -> bool:
    """Whether a test is about KMeans on dense arrays."""
    others = ("minibatch", "sparse", "csr", "bisecting")
    return "KMeans" in inspect.getsource(item.function) and not any(
        word in part.lower() for word in others for part in (item.name, *item.fixturenames)
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = filter(is_about_kmeans, items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid.rpartition("::")[2]] = report.outcome


def pytest_sessionfinish() -> None:
    with open(os.environ["OUTCOMES"], "w", encoding="utf-8") as file:
        json.dump(_outcomes, file)

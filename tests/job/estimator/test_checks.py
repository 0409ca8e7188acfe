"""scikit-learn's own checks of an estimator."""

import functools
from collections.abc import Callable

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from kmeans_job import KMeans

# What is particular to this estimator is checked each time, everything with the slow tests.
QUICK = {
    *("check_estimators_dtypes", "check_dict_unchanged", "check_dont_overwrite_attributes"),
    *("check_parameters_default_constructible", "check_estimators_pickle"),
    *("check_transformer_preserve_dtypes", "check_estimator_sparse_array"),
    *("check_readonly_memmap_input", "check_estimators_nan_inf", "check_fit2d_1sample"),
}
CONFIGURATIONS = [
    KMeans(3),  # some checks have only four distinct rows
    KMeans(3, init="random", n_init=2, algorithm="hamerly", replicas=2),
    KMeans(2, init="k-means||", max_iter=5, tol=1e-3, random_state=7, algorithm="lloyd"),
]


def name_of(check: Callable) -> str:
    while isinstance(check, functools.partial):
        check = check.func
    return check.__name__


@pytest.mark.parametrize(
    ("estimator", "check"),
    [pair for pair in estimator_checks_generator(KMeans(3)) if name_of(pair[1]) in QUICK],
    ids=lambda part: "" if isinstance(part, KMeans) else name_of(part),
)
def test_quick_checks(cpus, estimator, check):
    check(estimator)


def _expected_failures(estimator: KMeans) -> dict[str, str]:
    """What scikit-learn expects of its own KMeans, too."""
    reason = "draws follow the numbers of rows, and the check shuffles the rows it repeats"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@pytest.mark.slow
@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=_expected_failures)
def test_all_checks(cpus, estimator, check):
    check(estimator)

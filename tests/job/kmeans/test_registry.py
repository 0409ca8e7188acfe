"""The lists of algorithms and initialisations: every entry is there, and `auto` chooses one."""

import pytest

from job.config import FitConfig
from job.kmeans import ALGORITHMS, INITS, chosen_algorithm, load


@pytest.mark.parametrize("entry", [*ALGORITHMS.values(), *INITS.values()])
def test_every_entry_can_be_loaded(entry):
    module, _, name = entry.partition(":")
    loaded = load(entry)
    assert callable(loaded)
    assert (loaded.__module__, loaded.__name__) == (module, name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_is_chosen_by_its_name(algorithm):
    assert chosen_algorithm(FitConfig("", "", k=1, algorithm=algorithm)) == algorithm


def test_auto_skips_where_there_is_something_to_skip():
    assert chosen_algorithm(FitConfig("", "", k=1)) == "lloyd"
    assert chosen_algorithm(FitConfig("", "", k=2)) == "hamerly"

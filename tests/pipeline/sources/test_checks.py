"""Names of files, labels and images that are common to all sources."""

import numpy as np
import pytest

from pipeline.sources import checks


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/data/a.parquet"], ["a.parquet"]),
        (["/data/a/x.npz", "/data/b/x.npz"], ["a/x.npz", "b/x.npz"]),
        (["/data/x.npz", "/data/b/x.npz"], ["x.npz", "b/x.npz"]),
    ],
)
def test_short_names_are_unique(paths, names):
    assert checks.short_names(paths) == names


def test_names_of_integer_labels():
    assert checks.integer_names(np.array([0, 2]), np.array([1])) == ("0", "1", "2")
    assert checks.digit_names(0) == ()
    assert checks.numbered_ids("train", 99_999, 100_001) == ["train/99999", "train/100000"]

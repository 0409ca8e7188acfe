"""The registry of `--transform`: what its values may be, and what every entry promises."""

import re
import subprocess
import sys

import pytest

from pipeline.errors import UserError
from pipeline.features import (
    FORMS,
    KINDS,
    TRANSFORM_FILES,
    Learned,
    feature_of,
    specification,
    transform_help,
)

FORMS_TEXT = " nor ".join(FORMS)
EXAMPLES = {"pca": "pca:7", "keras": "keras:model.h5"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pca:7", "pca:7"),
        ("pca:007", "pca:7"),
        ("keras:a b/model.keras", "keras:a b/model.keras"),
        ("keras:gs://bucket/model.keras", "keras:gs://bucket/model.keras"),
    ],
)
def test_values_as_they_are_kept(text, expected):
    assert specification(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pca:0", "'pca:0': at least one component is needed"),
        ("pca:x", f"'pca:x' is neither {FORMS_TEXT}"),
        ("pca", f"'pca' is neither {FORMS_TEXT}"),
        ("umap:3", f"'umap:3' is neither {FORMS_TEXT}"),
        ("keras:", f"'keras:' is neither {FORMS_TEXT}"),
    ],
)
def test_values_that_are_wrong(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        specification(text)
    with pytest.raises(UserError, match=f"^--transform {re.escape(message)}$"):
        feature_of(text)


@pytest.mark.parametrize("name", KINDS)
def test_every_entry_makes_a_feature(name):
    feature = feature_of(EXAMPLES[name])
    assert feature.file in TRANSFORM_FILES
    # It is either learned from the images, or the user has given the file.
    assert isinstance(feature, Learned) == (feature.original is None)


def test_what_the_registry_says_in_words():
    help_text = transform_help()
    assert help_text.startswith("cluster vectors instead of pixels: N principal components")
    assert all(kind.summary in help_text for kind in KINDS.values())
    assert {"transform.npz", "transform.keras", "transform.h5"} <= set(TRANSFORM_FILES)


@pytest.mark.parametrize(
    "module", ["pipeline.features", "pipeline.sources.formats", "pipeline.shards.rejected"]
)
def test_help_needs_no_numpy(module):
    heavy = {"numpy", "PIL", "pyarrow", "tensorflow", "apache_beam", "sklearn"}
    code = f"import sys, {module}; print({heavy} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout == "set()\n"


def test_keras_features_do_without_beam():
    code = "import sys, pipeline.features.keras_model; print('apache_beam' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout == "False\n"

"""What Dataflow and Vertex AI have in common: packages that may be missing."""

import re
import sys

import pytest

from job.cloud import services
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("module", "function", "said"),
    [
        ("google.cloud.aiplatform_v1", services.vertex_types, "google-cloud-aiplatform"),
        ("google.cloud.dataflow", services.dataflow_types, "apache-beam[gcp]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, function, said):
    parent, _, name = module.rpartition(".")
    monkeypatch.delattr(sys.modules[parent], name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        function()
    assert "pip install 'kmeans-job[gcp]'" in str(caught.value)

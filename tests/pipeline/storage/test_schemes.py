"""The registry of storages: what each needs, and what is said where it is missing."""

import re
import sys
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import schemes

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def bare(monkeypatch):
    """An installation without extras."""
    import fsspec

    def refuse(protocol):
        raise ImportError(f"Install a package for {protocol}")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", refuse)
    monkeypatch.setattr(fsspec.core, "filesystem", refuse)
    for module in ("google.api_core", "google.auth", "google.cloud"):
        monkeypatch.setitem(sys.modules, module, None)
    storage._remote.cache_clear()
    yield
    storage._remote.cache_clear()


@pytest.mark.parametrize("name", schemes.SCHEMES)
@pytest.mark.parametrize("action", [storage.exists, storage.list_names, storage.read_bytes])
def test_an_extra_that_is_missing_is_named(bare, name, action):
    if action is storage.list_names and not schemes.SCHEMES[name].writes:
        assert storage.list_names(f"{name}://bucket/a") == []
        return
    extra = schemes.SCHEMES[name].extra
    with pytest.raises(UserError) as caught:
        action(f"{name}://bucket/a")
    assert str(caught.value).startswith(f"{name}://bucket/a: cannot ")
    assert str(caught.value).endswith(
        f"what reads {name}:// is not installed; pip install 'kmeans-job[{extra}]' "
        f"(in a checkout: pip install '.[{extra}]')"
    )


def test_a_backend_without_an_extra(bare):
    with pytest.raises(UserError, match="sftp:// is not installed; install the fsspec backend for"):
        storage.exists("sftp://host/a")


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_extras_are_those_of_the_package_and_of_the_docs(name):
    extra = schemes.SCHEMES[name].extra
    assert re.search(rf'^ +"{extra}": ', (ROOT / "setup.py").read_text(), re.MULTILINE)
    rows = (ROOT / "docs" / "storage.md").read_text().splitlines()
    (row,) = (row for row in rows if row.startswith("|") and f"`{name}://`" in row.split("|")[1])
    assert f"kmeans-job[{extra}]" in row

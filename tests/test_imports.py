"""Who may import what: the rooms of the house, read from all imports of all files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kmeans_job", "pipeline", "job")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# What `job` knows of `pipeline`: the contract, the verbs, and three registries or descriptions that
# load nothing: `submit` asks which inputs are names of sets, what Beam's flags say of a job on
# Dataflow, and every command whether Beam knows a flag.
SHARED = (
    *("errors", "terminal", "options", "config", "storage", "shards", "features", "shard"),
    *("assign", "nearest", "interpreter", "interrupts", "streams"),
    *("sources.formats", "transforms.dataflow", "transforms.runner"),
)


def used(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it, and attributes that it takes of `tf`."""
    module = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = [*module[: -node.level]] if node.level else []
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "tf":
                yield f"tensorflow.{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def within(name: str, names: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of `names` or below it."""
    return any(f"{name}.".startswith(f"{other}.") for other in names)


def strangers(*names: str, outside: tuple[str, ...]) -> list[str]:
    """Files that use one of `names`, but for those in the rooms `outside` whose business it is."""
    return sorted(
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        if not path.relative_to(ROOT).as_posix().startswith(outside)
        for name in set(used(path))
        if within(name, names)
    )


def test_beam_below_transforms():
    assert strangers("apache_beam", outside=("pipeline/transforms/",)) == []


def test_distribution_below_distribute():
    # Modules of TensorFlow that are below no public name are for nobody.
    assert strangers("tensorflow.distribute", outside=("job/distribute/",)) == []
    assert strangers("tensorflow.python", outside=("job/distribute/",)) == []


def test_google_cloud_below_storage_and_cloud():
    outside = ("pipeline/storage/", "job/cloud/")
    names = ("google.cloud", "google.auth", "google.api_core")
    assert strangers(*names, outside=outside) == []


def test_pillow_where_pictures_are():
    places = "pipeline/sources/pictures/decode.py", "pipeline/shards/thumbnails.py", "job/report/"
    assert strangers("PIL", outside=places) == []


def test_pipeline_does_not_know_job():
    assert strangers("job", "kmeans_job", outside=("job/", "kmeans_job/")) == []
    assert strangers("kmeans_job", outside=("kmeans_job/",)) == []


def test_what_job_knows_of_pipeline():
    allowed = tuple(f"pipeline.{name}" for name in SHARED)
    found = strangers("pipeline", outside=("pipeline/", "kmeans_job/"))
    assert [line for line in found if not within(line.partition(": ")[2], allowed)] == []


@pytest.mark.parametrize("package", ["pipeline", "job"])
def test_nobody_imports_main(package):
    assert strangers(f"{package}.__main__", "__main__", outside=("nowhere/",)) == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import apache_beam as beam", "apache_beam"),
        ("def f():\n    from apache_beam.metrics import Metrics", "apache_beam.metrics.Metrics"),
        ("import tensorflow as tf\ntf.distribute.MirroredStrategy()", "tensorflow.distribute"),
        ("import importlib\nimportlib.import_module('PIL.Image')", "PIL.Image"),
        ("from . import decode", "job.decode"),
        ("from .images import rows", "job.images.rows"),
    ],
)
def test_an_import_is_seen(tmp_path, monkeypatch, code, name):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "fit.py").write_text(code)
    assert name in set(used(tmp_path / "job" / "fit.py"))

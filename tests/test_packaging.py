"""The wheel and the source distribution: whole, well described, and enough to run."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from jobs import ROOT

pytestmark = pytest.mark.slow


def python(*words, **how) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, **how
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The distributions, by ending, built as an index would get them: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    source = tmp_path_factory.mktemp("source")
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (target := source / name).parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    done = python("-m", "build", "--outdir", folder, cwd=source)
    if "No matching distribution found for setuptools" in done.stdout + done.stderr:
        pytest.skip("no package index, from which a build takes its setuptools")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """An environment with nothing but the wheel; what that needs is taken from this one."""
    folder = tmp_path_factory.mktemp("environment")
    assert python("-m", "venv", "--without-pip", folder).returncode == 0
    (packages,) = folder.glob("lib/python*/site-packages")
    done = python(
        *("-m", "pip", "--python", folder / "bin" / "python"),
        *("install", "--quiet", "--no-deps", "--no-index", built[".whl"]),
    )
    assert done.returncode == 0, done.stderr
    # Later on the path than the wheel. Files *.pth in there, e.g. of a checkout, are not read.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_twine_finds_nothing(built):
    done = python("-m", "twine", "check", "--strict", *built.values())
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_holds_what_the_packages_need(built):
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = set(wheel.namelist())
    packages = ("job", "kmeans_job", "pipeline")
    files = [path for name in packages for path in (ROOT / name).rglob("*") if path.is_file()]
    needed = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert needed <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {*packages}


def test_the_sdist_holds_tests_and_docs(built):
    with tarfile.open(built[".gz"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= {"docs/python.md", "tests/conftest.py", "benchmarks/fit.py", "Makefile"}


def test_it_runs_where_it_is_installed(installed, tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TF_CONFIG")
    }
    command = [installed / "bin" / "kmeans-job", "run", "--input", "digits", "--k", "10"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()
    code = (
        "import kmeans_job as k; r = k.load_result('out'); "
        "print(k.__file__, len(r.assignments), len(r._repr_html_()) > 1000)"
    )
    done = subprocess.run(
        [installed / "bin" / "python", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    where, rows, shown = done.stdout.split()
    assert where.startswith(str(installed))
    assert (rows, shown) == ("1797", "True"), done.stderr

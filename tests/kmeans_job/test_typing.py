"""What a type checker says of a program that uses the public names."""

import subprocess
import sys

import pytest
from jobs import ROOT

PROGRAM = """
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import kmeans_job
from kmeans_job import UserError, assign, fit, load_result, shard, sweep


def cluster(folder: Path, images: NDArray[np.uint8]) -> list[int]:
    manifest = shard("digits", folder / "shards", num_shards=2, image_size=(8, 8), color="gray")
    assert_type(manifest.num_images, int)
    assert_type(manifest.image_shape, tuple[int, ...])
    shard([folder / "a.npy", "b.npy"], "more", label_column="none")
    shard((images, ["a", "b"]), "pair")
    shard(((str(n), image) for n, image in enumerate(images)), "items")
    result = fit(folder / "shards", folder / "out", k=10, seed=3, tol=0, init=folder / "c.npy")
    assert_type(result.centroids, NDArray[np.float32])
    assert_type(result.metrics, dict[str, Any])
    assert_type(result.report, str)
    assert_type(result.export(folder / "sorted", what="outliers", per_cluster=3), int)
    assert_type(repr(result), str)
    found = assign("out", images, "new", quiet=False)
    assert_type(found.cluster_sizes, tuple[int, ...])
    assert_type(sweep(images, "sweep", range(2, 5), seed=3), dict[str, Any])
    try:
        again: kmeans_job.Result = load_result("out")
    except UserError as error:
        raise SystemExit(str(error)) from error
    clusters = again.predict(images)
    assert_type(clusters, NDArray[np.int32])
    return [int(cluster) for cluster in clusters]
"""
WRONG = {
    "fit('shards', 'out', 2, sead=1)": 'Unexpected keyword argument "sead" for "fit"',
    "fit('shards', 'out', '2')": 'has incompatible type "str"; expected "int"',
    "fit('shards', 'out', 2, tol='x')": 'has incompatible type "str"; expected "float"',
    "shard(3, 'out')": 'Argument 1 to "shard" has incompatible type "int"',
    "load_result('out').predcit([])": 'has no attribute "predcit"',
}


def checked(tmp_path, text: str) -> tuple[int, str]:
    """The exit status and the output of `mypy --strict` for a program outside the project."""
    (path := tmp_path / "program.py").write_text(text)
    flags = ("--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, str(path)],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_program_is_checked_strictly(tmp_path):
    assert checked(tmp_path, PROGRAM) == (0, "Success: no issues found in 1 source file\n")
    calls = "\n".join(WRONG)
    status, said = checked(tmp_path, f"from kmeans_job import fit, load_result, shard\n{calls}\n")
    assert status == 1
    lines = said.splitlines()
    for number, message in enumerate(WRONG.values(), 2):
        assert any(f":{number}: error" in line and message in line for line in lines), said


@pytest.mark.parametrize("package", ["job", "kmeans_job", "pipeline"])
def test_packages_say_that_they_are_typed(package):
    assert (ROOT / package / "py.typed").exists()

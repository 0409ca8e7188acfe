"""What notebooks use: `from kmeans_job import fit, load_result`."""

import json
import re
import subprocess
import sys

import jobs
import numpy as np
import pyarrow as pa
import pytest
import shard_set
from sklearn.datasets import load_digits

import kmeans_job
from pipeline.errors import UserError
from pipeline.shards.assignments import SCHEMA


@pytest.fixture(scope="module")
def shards(new_folder) -> str:
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return shard_set.write(new_folder(), pixels, labels=digits.target.astype(np.int64))


@pytest.fixture(scope="module")
def result(shards, cpus, new_folder):
    return kmeans_job.fit(shards, new_folder(), 10, algorithm="lloyd", init="random", seed=3)


def test_the_example_in_the_readme(cpus, tmp_path, monkeypatch, capsys):
    readme = (jobs.ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from kmeans_job import .*?)```", readme, re.DOTALL)
    assert len(example.splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    metrics = json.loads((tmp_path / "out" / "result" / "metrics.json").read_text())
    assert printed[0] == f"{metrics['purity']} {metrics['inertia']}"
    assert len(printed) == 2


def test_a_fit_returns_what_its_folder_holds(result):
    again = kmeans_job.load_result(result.folder)
    assert again.metrics == result.metrics
    assert again.metrics["seed"] == 3
    assert again.centroids.shape == (10, 64)
    assert again.centroids.dtype == np.float32
    np.testing.assert_array_equal(again.centroids, result.centroids)
    assert [line["iteration"] for line in again.history] == [
        *range(1, result.metrics["iterations"] + 1)
    ]


def test_assignments_are_a_table(result):
    table = result.assignments
    assert isinstance(table, pa.Table)
    assert table.schema == SCHEMA
    assert table["id"].to_pylist() == shard_set.numbered(1_797)
    sizes = np.bincount(table["cluster"].to_numpy(), minlength=10)
    assert sizes.tolist() == result.metrics["cluster_sizes"]
    assert result.assignments is table  # read once


def test_assignments_are_a_frame_where_there_is_pandas(result):
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert result.assignments.to_pandas()["cluster"].value_counts().sum() == 1_797


def test_what_is_wrong_is_raised(shards, result, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/metrics\.json: no such file"):
        kmeans_job.load_result(tmp_path / "nowhere")
    with pytest.raises(UserError, match="--k 0: must be at least 1"):
        kmeans_job.fit(shards, tmp_path / "out", 0)
    with pytest.raises(UserError, match="add --overwrite"):
        kmeans_job.fit(shards, result.folder, 10)
    with pytest.raises(TypeError, match="sead"):
        kmeans_job.fit(shards, tmp_path / "out", 2, sead=1)


def test_a_sweep(shards, result, tmp_path):
    options = {"algorithm": "lloyd", "init": "random", "seed": 3}
    found = kmeans_job.sweep(shards, tmp_path / "sweep", (10, 2), **options)
    assert [fit["k"] for fit in found["fits"]] == [2, 10]
    assert found == json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    ten = kmeans_job.load_result(tmp_path / "sweep" / "k=10")
    np.testing.assert_array_equal(ten.centroids, result.centroids)
    with pytest.raises(UserError, match="holds a sweep; add --overwrite to replace it"):
        kmeans_job.sweep(shards, tmp_path / "sweep", (10, 2), **options)


def test_a_sweep_of_images_in_memory(cpus, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 5), dtype=np.uint8)
    options = {"algorithm": "lloyd", "init": "random"}
    found = kmeans_job.sweep(images, tmp_path, [3, 2], **options)
    assert (tmp_path / "shards" / "manifest.json").exists()
    assert [fit["folder"] for fit in found["fits"]] == ["k=2", "k=3"]


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        ([8, 8], "ks: '8,8' has 8 twice; give each number once"),
        ([2.5], "ks: '2.5' is neither a number nor numbers with commas between"),
        ([], "ks: '' is neither a number"),
        ([4, 0], "--k 0: must be at least 1"),
    ],
)
def test_wrong_numbers_of_clusters(shards, tmp_path, ks, message):
    with pytest.raises(UserError, match=message):
        kmeans_job.sweep(shards, tmp_path / "out", ks)


def test_a_damaged_table_is_named(result, new_folder):
    folder = new_folder()
    for name in ("metrics.json", "centroids.npy", "history.jsonl", "examples.npz"):
        (folder / name).symlink_to(f"{result.folder}/{name}")
    (folder / "assignments").mkdir()
    (path := folder / "assignments" / "assignments-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=f"{path}: no assignments"):
        _ = kmeans_job.load_result(folder).assignments


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import kmeans_job", "tensorflow apache_beam pyarrow numpy"),
        ("from kmeans_job import fit, load_result", "tensorflow apache_beam pyarrow numpy"),
        ("import kmeans_job; kmeans_job.load_result({!r}).assignments", "tensorflow apache_beam"),
    ],
)
def test_it_is_light(result, code, absent):
    code = code.format(result.folder)
    code += f"\nimport sys; print([m for m in {absent.split()} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""The whole job on a server that speaks S3: the same bits as on a local disk, whatever happens."""

import json
from pathlib import Path

import jobs
import pytest
import sets

from job.cli import main
from pipeline import storage


def fetch(remote: str, folder: Path) -> Path:
    """Copies a remote folder with all that is in it."""
    for name in storage.walk(remote):
        (path := folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read_bytes(storage.join(remote, name)))
    return folder


def run(*words: str) -> None:
    assert main([*words, "--quiet"]) == 0


@pytest.fixture
def shards(s3_bucket, tmp_path) -> tuple[str, str]:
    """The digits as shards here and on S3."""
    for folder in (str(tmp_path / "shards"), f"{s3_bucket}/shards"):
        run("shard", "--input", "digits", "--output", folder, "--num-shards", "3")
    return str(tmp_path / "shards"), f"{s3_bucket}/shards"


def test_shards_are_the_same(shards, tmp_path):
    local, remote = (
        sets.contents(Path(shards[0])),
        sets.contents(fetch(shards[1], tmp_path / "s3")),
    )
    assert remote == local


@pytest.mark.parametrize("memory", ["resident", pytest.param("stream", marks=pytest.mark.slow)])
def test_a_fit_that_is_killed_resumes_to_the_same_bits(shards, s3_bucket, tmp_path, memory):
    options = ["--k", "10", "--memory", memory, "--algorithm", "lloyd", "--seed", "4"]
    run("fit", "--shards", shards[0], "--output", str(tmp_path / "out"), *options)
    remote = f"{s3_bucket}/out"
    command = ["--shards", shards[1], "--output", remote, "--checkpoint-seconds", "0", *options]
    victim = jobs.start(tmp_path / "victim", *command)  # the last --output counts
    state = f"{remote}/checkpoint/state-00000005"
    assert jobs.wait_until(lambda: storage.exists(state), victim)
    victim.kill()
    victim.wait()
    assert not storage.exists(f"{remote}/metrics.json")
    run("fit", *command)
    found = jobs.outcome(fetch(remote, tmp_path / "fetched"))
    assert found == jobs.outcome(tmp_path / "out")


def test_new_images_are_assigned_alike(shards, s3_bucket, tmp_path):
    for root, folder in zip((str(tmp_path), s3_bucket), shards, strict=True):
        run(
            "fit", "--shards", folder, "--output", f"{root}/out", "--k", "3", "--algorithm", "lloyd"
        )
        run("assign", "--model", f"{root}/out", "--input", "digits", "--output", f"{root}/new")
    remote = fetch(f"{s3_bucket}/new", tmp_path / "fetched")
    local = tmp_path / "new"
    names = [path.relative_to(local) for path in local.rglob("*.parquet")]
    assert names
    assert all((remote / name).read_bytes() == (local / name).read_bytes() for name in names)
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (local, remote)]
    assert manifests[0]["cluster_sizes"] == manifests[1]["cluster_sizes"]


def test_a_second_writer_of_a_result_is_refused(shards, s3_bucket, capfd):
    command = ["fit", "--shards", shards[1], "--output", f"{s3_bucket}/out", "--k", "2", "--quiet"]
    assert main([*command, "--algorithm", "lloyd"]) == 0
    capfd.readouterr()
    assert main(command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"--output {s3_bucket}/out: holds a result" in line

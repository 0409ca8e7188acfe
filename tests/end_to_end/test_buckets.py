"""The whole job in a bucket of an emulator: the same bits as on a local disk, whatever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gcs_double
import jobs
import numpy as np
import published
import pytest
import sets
from sklearn.datasets import load_digits

from job.checkpoint import Checkpoints
from job.cli import main
from job.images.disk_copy import PREFIX
from job.kmeans.loop import State
from job.result.write import write_metrics
from pipeline import storage
from pipeline.errors import Conflict

SECRET = "secret-project"


def upload(folder: Path, remote: str) -> None:
    """Copies a local folder with all that is in it."""
    for name in storage.walk(str(folder)):
        storage.write_bytes(storage.join(remote, name), (folder / name).read_bytes())


def download(remote: str, folder: Path) -> Path:
    """Copies a remote folder with all that is in it."""
    for name in storage.walk(remote):
        (path := folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read_bytes(storage.join(remote, name)))
    return folder


def write_npy(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.save(folder / "set_labels.npy", labels)
    np.save(path := folder / "set.npy", images)
    return str(path)


FORMATS = {**sets.FORMATS, "npy": write_npy}


@pytest.fixture(params=FORMATS)
def inputs(request, bucket, tmp_path) -> tuple[str, str]:
    """The same images here and in a bucket."""
    (tmp_path / "input").mkdir()
    spec = FORMATS[request.param](tmp_path / "input", *sets.digits(90))
    upload(tmp_path / "input", f"{bucket}/input")
    return spec, spec.replace(str(tmp_path), bucket)


def test_shards_are_the_same_in_a_bucket(inputs, bucket, tmp_path):
    for spec, output in zip(inputs, (tmp_path / "local", f"{bucket}/out"), strict=True):
        command = ["shard", "--input", spec, "--output", str(output), "--num-shards", "2"]
        assert main([*command, "--quiet"]) == 0
    local, remote = (
        sets.contents(folder)
        for folder in (tmp_path / "local", download(f"{bucket}/out", tmp_path / "remote"))
    )
    manifests = [json.loads(files.pop("manifest.json")) for files in (local, remote)]
    assert remote == local
    assert [manifest.pop("source")["input"] for manifest in manifests] == list(inputs)
    assert manifests[0] == manifests[1]


@pytest.mark.slow
def test_whole_job_is_the_same_in_a_bucket(cpus, inputs, bucket, tmp_path):
    for spec, root in zip(inputs, (tmp_path, bucket), strict=True):
        command = ["run", "--input", spec, "--output", f"{root}/out", "--k", "3", "--quiet"]
        assert main(command) == 0
    out = download(f"{bucket}/out", tmp_path / "remote")
    assert published.read(out).bits() == published.read(tmp_path / "out").bits()


def test_large_files_are_read_piece_by_piece(bucket, tmp_path):
    """Files above the size that is read into memory at once; globs; several files."""
    images = np.random.default_rng(0).integers(0, 256, (3000, 28, 28)).astype(np.uint8)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x_train=images)
    upload(tmp_path, bucket)
    for root in (str(tmp_path), bucket):
        command = ["--input", f"{root}/*.npz", "--output", f"{root}/shards", "--num-shards", "3"]
        assert main(["shard", *command, "--quiet"]) == 0
    download(f"{bucket}/shards", tmp_path / "remote")
    local, remote = sets.read_set(tmp_path / "shards"), sets.read_set(tmp_path / "remote")
    assert local[0].shards == remote[0].shards
    assert local[1].ids[0] == "a/train/00000"


def test_vectors_are_the_same_in_a_bucket(bucket, tmp_path):
    for output in (str(tmp_path / "local"), f"{bucket}/out"):
        command = ["run", "--input", "digits", "--output", output, "--transform", "pca:7"]
        assert main([*command, "--k", "4", "--max-iterations", "3", "--quiet"]) == 0
    for name in ("shards/transform.npz", "transform.npz", "centroids.npy"):
        local = (tmp_path / "local" / name).read_bytes()
        assert storage.read_bytes(f"{bucket}/out/{name}") == local


@pytest.fixture
def shards(bucket, make_shards) -> tuple[Path, str]:
    """The digits as shards here and in a bucket."""
    data = load_digits()
    pixels = np.rint(data.data * (255 / 16)).astype(np.uint8)
    folder = Path(make_shards(pixels, labels=data.target, num_shards=3))
    upload(folder, f"{bucket}/shards")
    return folder, f"{bucket}/shards"


@pytest.mark.parametrize("memory", ["stream", pytest.param("resident", marks=pytest.mark.slow)])
def test_killed_fit_goes_on_from_its_checkpoint(fit, bucket, shards, tmp_path, memory):
    local, remote = shards
    output, log = f"{bucket}/out", tmp_path / "out"
    options = ["--k", 10, "--algorithm", "lloyd", "--checkpoint-seconds", 0]
    command = [log, "--shards", remote, "--output", output, "--memory", memory, *options]
    (temporary := tmp_path / "tmp").mkdir()
    variables = {"GOOGLE_CLOUD_PROJECT": SECRET, "TMPDIR": str(temporary)}
    process = jobs.start(*command, **variables)

    def has_iterated() -> bool:
        return max(storage.list_names(f"{output}/checkpoint"), default="") > "state-00000020"

    with jobs.ended([process]):
        assert jobs.wait_until(has_iterated, process), jobs.errors_of(log)
    assert storage.list_names(f"{output}/checkpoint")
    assert bool(list(temporary.glob(f"{PREFIX}*"))) == (memory == "stream")
    assert jobs.fit(*command, **variables) == 0, jobs.errors_of(log)
    assert not list(temporary.glob(f"{PREFIX}*"))
    result = download(output, tmp_path / "result")
    whole = fit(str(local), 10)
    assert published.read(result).bits() == whole.bits()
    assert not (result / "checkpoint").exists()
    for path in result.rglob("*.*"):
        assert SECRET.encode() not in path.read_bytes()
    assert SECRET not in jobs.errors_of(log)


def test_initial_centroids_and_report_in_a_bucket(cpus, bucket, shards, tmp_path, capsys):
    np.save(tmp_path / "initial.npy", np.random.default_rng(0).random((4, 64)))
    storage.write_bytes(f"{bucket}/initial.npy", (tmp_path / "initial.npy").read_bytes())
    for root, folder in ((str(tmp_path), str(shards[0])), (bucket, shards[1])):
        flags = ["--k", "4", "--init", f"{root}/initial.npy", "--algorithm", "lloyd", "--quiet"]
        assert main(["fit", "--shards", folder, "--output", f"{root}/out", *flags]) == 0
    out = download(f"{bucket}/out", tmp_path / "remote")
    assert published.read(out).bits() == published.read(tmp_path / "out").bits()
    storage.remove(f"{bucket}/out/report.html")
    assert main(["report", "--run", f"{bucket}/out"]) == 0
    assert capsys.readouterr().out == f"{bucket}/out/report.html\n"
    assert storage.read_bytes(f"{bucket}/out/report.html") == (out / "report.html").read_bytes()


def test_what_is_there_is_not_overwritten_unasked(bucket, shards, capsys):
    command = ["shard", "--input", "digits", "--output", shards[1], "--num-shards", "2", "--quiet"]
    assert main(command) == 2
    assert "holds a complete set of shards; use it, or add --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert [name for name in storage.list_names(shards[1]) if "-of-00003" in name] == []
    assert main(["shard", "--input", "digits", "--output", bucket, "--quiet"]) == 2
    assert "holds something else (shards); give a new or empty" in capsys.readouterr().err


def test_names_of_objects_are_escaped(cpus, bucket, capfd):
    script, clear = "<script>alert(1)</script>", "\x1b[2J"
    images, _ = sets.digits(30)
    for number, pixels in enumerate(images):
        name = f"{bucket}/set/{script}{number % 2}/{clear}{number}.png"
        storage.write_bytes(name, sets.encoded(pixels))
    command = ["--output", f"{bucket}/out", "--k", "2", "--algorithm", "lloyd"]
    assert main(["run", "--input", f"{bucket}/set", *command]) == 0
    report = storage.read_bytes(f"{bucket}/out/report.html").decode()
    assert script not in report
    assert "&lt;script&gt;alert(1)" in report
    storage.write_bytes(f"{bucket}/set/{script}0/{clear}.png", b"")
    again = ["--overwrite", "--max-rejected", "0"]
    assert main(["run", "--input", f"{bucket}/set", *command, *again]) == 2
    captured = capfd.readouterr()
    assert "\\x1b[2J.png: empty file; mend what" in captured.err
    assert "\x1b" not in report + captured.out + captured.err


def test_missing_bucket_is_one_line(emulator, tmp_path, capsys):
    path = "gs://no-such-bucket/set.npz"
    assert main(["shard", "--input", path, "--output", str(tmp_path / "out")]) == 2
    remedy = "check its name, or make it: gcloud storage buckets create gs://no-such-bucket"
    error = f"{path}: cannot read: there is no bucket no-such-bucket; {remedy}"
    assert capsys.readouterr().err == f"kmeans-job: error: {error}\n"


def test_damaged_shard_is_named(bucket, shards, tmp_path, capsys):
    path = f"{shards[1]}/images-00001-of-00003.tfrecord"
    data = bytearray(storage.read_bytes(path))
    data[len(data) // 2] ^= 1
    storage.write_bytes(path, bytes(data))
    for memory in ("resident", "stream"):
        command = ["fit", "--shards", shards[1], "--output", f"{bucket}/out", "--k", "3"]
        assert main([*command, "--memory", memory, "--quiet"]) == 2
        assert "images-00001-of-00003.tfrecord: altered since it was" in capsys.readouterr().err


def test_local_and_remote_inputs_do_not_mix(bucket, tmp_path, capsys):
    sets.write_npz(tmp_path, *sets.digits())
    upload(tmp_path, bucket)
    inputs = [str(tmp_path / "set.npz"), f"{bucket}/set.npz"]
    assert main(["shard", "--input", *inputs, "--output", str(tmp_path / "out")]) == 2
    assert "paths of different storages; give one kind" in capsys.readouterr().err


@pytest.fixture
def double(monkeypatch):
    """What gs:// paths lead to: a server that knows preconditions."""
    with gcs_double.running() as started:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
        yield started


def test_of_two_fits_in_a_folder_one_goes_on(double):
    one, two = (
        Checkpoints("gs://bucket/out/checkpoint", {}, interval_seconds=0, clock=float)
        for _ in range(2)
    )
    assert one.load() is two.load() is None
    assert one.reached(State(iteration=1), b"one\n")
    with pytest.raises(Conflict, match="state-00000001: cannot write: another writer was faster"):
        two.reached(State(iteration=2), b"two\n")
    two.flush()  # as a fit does when it ends
    assert one.reached(State(iteration=3), b"one\n")
    assert list(double.objects["bucket"]) == [
        "out/checkpoint/state-00000001",
        "out/checkpoint/state-00000002",
    ]


def test_of_two_results_in_a_folder_one_is_complete(double):
    write_metrics("gs://bucket/out", {"inertia": 1})
    with pytest.raises(Conflict, match=r"metrics\.json: cannot write: another writer was faster"):
        write_metrics("gs://bucket/out", {"inertia": 2})
    assert json.loads(storage.read_bytes("gs://bucket/out/metrics.json")) == {"inertia": 1}


SPY = """
import atexit, pathlib, socket, sys
seen = []
connect, resolve = socket.socket.connect, socket.getaddrinfo
def spy_connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        seen.append(address)
    return connect(self, address)
def spy_resolve(host, *rest, **named):
    if host not in ("127.0.0.1", "localhost", "::1", None):
        seen.append(host)
    return resolve(host, *rest, **named)
socket.socket.connect, socket.getaddrinfo = spy_connect, spy_resolve
atexit.register(lambda: pathlib.Path(__file__).with_name("seen").write_text(repr(seen)))
"""


def test_a_local_run_asks_nobody(tmp_path):
    """Though Beam's and Google's libraries for the cloud are installed."""
    (spy := tmp_path / "spy").mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    environment = {k: v for k, v in os.environ.items() if k != "STORAGE_EMULATOR_HOST"}
    environment["PYTHONPATH"] = os.pathsep.join([str(spy), str(jobs.ROOT)])
    output = tmp_path / "out"
    command = ["run", "--input", "digits", "--output", output, "--k", "3", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "job", *map(str, command)],
        check=True,
        env=environment,
        timeout=jobs.PATIENCE_SECONDS,
    )
    assert (spy / "seen").read_text() == "[]"

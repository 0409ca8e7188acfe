"""The command line as a user meets it: what it refuses, what it prints, how it ends."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shard_set
from PIL import Image

from job.cli import main
from job.result.read import load_result

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("kmeans-job")
HEAVY = ("tensorflow", "apache_beam", "pyarrow", "sklearn")


def run(*command: str | Path) -> subprocess.CompletedProcess:
    """A process in the root of the project."""
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def job(*arguments: str | Path) -> subprocess.CompletedProcess:
    return run(sys.executable, "-m", "job", *arguments)


@pytest.fixture
def refused(cpus, capfd, tmp_path):
    """Runs a command that must end with 2 and one line on stderr; that line."""
    output = tmp_path / "out"

    def check(*arguments: str | Path, output: Path = output) -> str:
        if arguments[0] in ("run", "fit"):
            arguments = (*arguments, "--output", output, "--quiet")
        status = main([str(argument) for argument in arguments])
        stdout, stderr = capfd.readouterr()
        assert (status, stdout, stderr.count("\n")) == (2, "", 1), stderr
        assert not list(tmp_path.rglob("metrics.json"))
        return stderr

    return check


def save_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Images that are all different."""
    count = int(np.prod(shape))
    return (np.arange(count) * 251 // max(count, 1)).reshape(shape).astype(dtype)


# Inputs.


def test_a_missing_input(refused, tmp_path):
    assert "nowhere.npz" in refused("run", "--input", tmp_path / "nowhere.npz", "--k", "2")


def test_an_input_that_is_not_an_npz(refused, tmp_path):
    (path := tmp_path / "text.npz").write_text("these are not the images")
    assert "text.npz" in refused("run", "--input", path, "--k", "2")


def test_an_npz_without_the_split(refused, tmp_path):
    path = save_npz(tmp_path / "half.npz", x_train=pixels(9, 2, 2))
    line = refused("run", "--input", path, "--k", "2", "--split", "test")
    assert "half.npz" in line
    assert "--split test" in line


@pytest.mark.parametrize("shape", [(12,), (0, 2, 2), (2, 2, 2, 2, 2)], ids=str)
def test_arrays_that_are_no_images(refused, tmp_path, shape):
    path = save_npz(tmp_path / "odd.npz", x_train=pixels(*shape))
    line = refused("run", "--input", path, "--k", "2")
    assert "odd.npz" in line
    assert str(shape) in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_pixels_that_are_no_numbers(refused, tmp_path, value):
    images = pixels(9, 4, dtype="float32")
    images[5, 2] = value
    np.save(path := tmp_path / "broken.npy", images)
    line = refused("run", "--input", path, "--k", "2")
    assert "broken.npy" in line
    assert "train/00005" in line


def test_labels_of_another_length(refused, tmp_path):
    path = save_npz(tmp_path / "odd.npz", x_train=pixels(9, 2, 2), y_train=np.arange(8))
    line = refused("run", "--input", path, "--k", "2")
    assert re.search(r"odd\.npz: y_train: labels of shape \(8,\) for 9 images", line)


# Options.


@pytest.fixture(scope="module")
def shards(make_shards) -> str:
    return make_shards(pixels(30, 2, 3), num_shards=3, block_rows=4)


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (["--k", "0"], "--k 0"),
        (["--k", "-3"], "--k -3"),
        (["--k", "31"], "--k 31"),
        (["--k", "two"], "two"),
        ([], "--k"),
        (["--k", "2", "--restarts", "0"], "--restarts 0"),
        (["--k", "2", "--max-iterations", "0"], "--max-iterations 0"),
        (["--k", "2", "--tol", "-1"], "--tol -1"),
        (["--k", "2", "--tol", "nan"], "--tol nan"),
        (["--k", "2", "--replicas", "0"], "--replicas 0"),
        (["--k", "2", "--algorithm", "magic"], "--algorithm magic"),
        (["--k", "2", "--init", "magic"], "--init magic"),
        (["--k", "2", "--init", "nowhere.npy"], "nowhere.npy"),
    ],
    ids=" ".join,
)
def test_options_out_of_range(refused, shards, flags, culprit):
    assert culprit in refused("fit", "--shards", shards, *flags)


@pytest.mark.parametrize(
    ("flag", "near"),
    [
        ("--max-iteration=3", "--max-iterations"),
        ("--sead", "--seed"),
        ("--overwite", "--overwrite"),
        ("--shard", "--shards"),
    ],
)
def test_an_unknown_flag_names_the_nearest(refused, shards, flag, near):
    line = refused("fit", "--shards", shards, "--k", "2", flag)
    assert re.search(rf"{flag.split('=')[0]}: did you mean {near}\?", line)


def test_a_flag_that_neither_we_nor_beam_know(refused):
    line = refused("run", "--input", "digits", "--k", "2", "--numshards", "2")
    assert re.search(r"--numshards: did you mean --num-shards\?", line)


def test_a_word_too_many(refused, shards):
    assert "'quickly'" in refused("fit", "--shards", shards, "--k", "2", "quickly")


def test_an_unknown_command(refused):
    assert "cluster" in refused("cluster")


def test_no_command(refused):
    assert "COMMAND" in refused("--quiet")


def test_more_clusters_than_distinct_images(refused, tmp_path):
    path = save_npz(tmp_path / "copies.npz", x_train=np.repeat(pixels(2, 3, 3), 5, axis=0))
    line = refused("run", "--input", path, "--k", "3")
    assert "--k 3" in line
    assert "2 distinct images" in line


@pytest.mark.parametrize("shape", [(3, 6), (2, 5), (2, 2, 3), (12,)], ids=str)
def test_initial_centroids_of_another_shape(refused, shards, tmp_path, shape):
    np.save(path := tmp_path / "initial.npy", np.zeros(shape))
    line = refused("fit", "--shards", shards, "--k", "2", "--init", path)
    assert "initial.npy" in line
    assert str(shape) in line
    assert "(2, 6)" in line


# Shards.


@pytest.fixture
def own_shards(tmp_path) -> Path:
    """A set that a test may damage."""
    (folder := tmp_path / "shards").mkdir()
    shard_set.write(folder, pixels(30, 2, 3), num_shards=3, block_rows=4)
    return folder


def test_a_folder_that_is_not_there(refused, tmp_path):
    line = refused("fit", "--shards", tmp_path / "nowhere", "--k", "2")
    assert "nowhere/manifest.json" in line
    assert "kmeans-job shard" in line


def test_a_missing_shard(refused, own_shards):
    (path := own_shards / "images-00001-of-00003.tfrecord").unlink()
    assert path.name in refused("fit", "--shards", own_shards, "--k", "2")


def test_a_truncated_shard(refused, own_shards):
    path = own_shards / "images-00001-of-00003.tfrecord"
    path.write_bytes(path.read_bytes()[:-10])
    assert path.name in refused("fit", "--shards", own_shards, "--k", "2")


@pytest.mark.parametrize("place", [0, 9, 40, -1])
def test_a_flipped_byte(refused, own_shards, place):
    data = bytearray((path := own_shards / "images-00002-of-00003.tfrecord").read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    assert path.name in refused("fit", "--shards", own_shards, "--k", "2")


def test_a_shard_too_many(refused, own_shards):
    data = (own_shards / "images-00000-of-00003.tfrecord").read_bytes()
    (path := own_shards / "images-00003-of-00004.tfrecord").write_bytes(data)
    assert path.name in refused("fit", "--shards", own_shards, "--k", "2")


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}", '{"format_version": 1}'])
def test_a_manifest_that_is_none(refused, own_shards, text):
    (own_shards / "manifest.json").write_text(text)
    assert "manifest.json" in refused("fit", "--shards", own_shards, "--k", "2")


def test_a_manifest_of_a_newer_format(refused, own_shards):
    path = own_shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    line = refused("fit", "--shards", own_shards, "--k", "2")
    assert "manifest.json" in line
    assert "format_version 99" in line


# Output folders.


def test_an_output_that_cannot_be_made(refused, shards, tmp_path):
    (tmp_path / "file").write_text("in the way")
    output = tmp_path / "file" / "out"
    assert str(output) in refused("fit", "--shards", shards, "--k", "2", output=output)


def test_an_output_that_is_a_file(refused, shards, tmp_path):
    (output := tmp_path / "file").write_text("in the way")
    assert str(output) in refused("fit", "--shards", shards, "--k", "2", output=output)
    assert output.read_text() == "in the way"


@pytest.mark.parametrize("command", ["fit", "run"])
def test_an_output_that_holds_something_else(refused, shards, tmp_path, command):
    (output := tmp_path / "out").mkdir()
    (output / "thesis.tex").write_text("years")
    source = {"fit": ["--shards", shards], "run": ["--input", "digits"]}[command]
    line = refused(command, *source, "--k", "2", "--overwrite")
    assert "thesis.tex" in line
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_a_report_of_no_result(refused, tmp_path):
    assert str(tmp_path) in refused("report", "--run", tmp_path)


# What it prints.


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["fit", "--help"], ["assign", "--help"]], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import atexit, sys; from job.cli import main\n"
        f"atexit.register(lambda: print(*[m for m in {HEAVY} if m in sys.modules], 'loaded'))\n"
        f"main({arguments})"
    )
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded"
    assert "kmeans-job" in done.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The main job as a process: its output folder, and what it printed."""
    folder = tmp_path_factory.mktemp("digits") / "out"
    done = job("run", "--input", "digits", "--k", "10", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_summary(digits):
    folder, done = digits
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = done.stdout.splitlines()
    assert len(lines) <= 10
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["images"].startswith("1,797 ")
    assert facts["clusters"] == "10"
    assert re.fullmatch(
        rf"{metrics['iterations']}, converged, [\d,]+ images/s", facts["iterations"]
    )
    assert float(facts["inertia"]) == pytest.approx(metrics["inertia"], rel=1e-9)
    for name in ("NMI", "ARI", "accuracy"):
        assert float(facts[name]) == pytest.approx(metrics[name.lower()], abs=6e-5)
    assert facts["report"] == f"{folder}/report.html"
    assert (folder / "report.html").stat().st_size > 10_000


def test_digits_are_told_apart(digits):
    metrics = json.loads((digits[0] / "metrics.json").read_text())
    assert metrics["num_images"] == sum(metrics["cluster_sizes"]) == 1797
    assert 0.65 < metrics["purity"] < 0.9


def test_no_chatter(digits):
    lines = digits[1].stderr.splitlines()
    assert lines
    assert [line for line in lines if not re.match(r"(shard|fit|write): [\d,]+", line)] == []


def test_a_second_run_is_refused(digits):
    folder, _ = digits
    before = (folder / "metrics.json").read_bytes()
    done = job("run", "--input", "digits", "--k", "10", "--output", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--overwrite" in done.stderr
    assert (folder / "metrics.json").read_bytes() == before


def test_fit_on_the_shards_of_run(digits, tmp_path):
    folder, _ = digits
    arguments = ["--shards", folder / "shards", "--output", tmp_path, "--k", "10", "--quiet"]
    done = job("fit", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    centroids = (tmp_path / "centroids.npy").read_bytes()
    assert centroids == (folder / "centroids.npy").read_bytes()


def test_report(digits):
    folder, _ = digits
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    done = job("report", "--run", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder}/report.html\n"
    assert (folder / "report.html").read_bytes() == before


def test_the_installed_command(tmp_path):
    if not COMMAND.exists():
        pytest.skip(f"kmeans-job is not installed beside {sys.executable}")
    done = run(COMMAND, "run", "--input", "digits", "--k", "3", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()


def test_names_of_any_bytes(cpus, tmp_path, capsys):
    name = os.fsdecode(b"<caf\xe9>\n'x'")
    for label in ("a", "b"):
        (tmp_path / name / f"{name}{label}").mkdir(parents=True)
        for number in range(3):
            pixels = np.full((4, 4), 80 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{name}{label}" / f"{number}.png")
    images, out = str(tmp_path / name), str(tmp_path / f"{name}-out")
    assert main(["run", "--input", images, "--output", out, "--k", "2", "--quiet"]) == 0
    assert job("report", "--run", out).returncode == 0
    new = ["--input", images, "--output", str(tmp_path / f"{name}-new"), "--quiet"]
    assert main(["assign", "--model", out, *new]) == 0
    assert capsys.readouterr().err == ""
    ids = load_result(out).assignments["id"].to_pylist()
    shown = "<caf\\xe9>\n'x'"  # the byte is escaped
    assert sorted(ids) == [f"{shown}{label}/{n}.png" for label in ("a", "b") for n in range(3)]
    assert load_result(out).metrics["label_names"] == [f"{shown}a", f"{shown}b"]
    page = Path(out, "report.html").read_text(encoding="utf-8")
    assert "&lt;caf\\xe9&gt;" in page
    assert "<caf" not in page


def test_errors_as_json():
    """In a process of its own: the format is settled once."""
    done = job("report", "--run", "absent", "--log-format", "json")
    told = json.loads(done.stderr)
    assert (done.returncode, told["severity"]) == (2, "ERROR")
    assert told["message"].startswith("error: absent")

"""The command `shard`: its options, its refusals, and what a dead run leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sets
from counting_source import Numbers
from png import png_header

from pipeline import storage
from pipeline.cli import main
from pipeline.errors import TransientError, UserError
from pipeline.shard import figures, num_shards_of

ROOT = Path(__file__).resolve().parents[2]


def shard(spec, folder, *flags: str) -> int:
    return main(["--input", str(spec), "--output", str(folder), "--quiet", *flags])


@pytest.fixture
def spec(tmp_path) -> str:
    """A folder of PNG files in three classes, one of them broken."""
    path = sets.write_folder(tmp_path, *sets.digits(120))
    (tmp_path / "folder" / "0" / "broken.png").write_bytes(b"")
    return path


def test_two_runs_are_byte_identical(tmp_path, spec):
    for name in ("one", "two"):
        assert shard(spec, tmp_path / name, "--num-shards", "3") == 0
    assert sets.contents(tmp_path / "one") == sets.contents(tmp_path / "two")


def test_rejected_images_are_on_the_terminal_and_in_the_manifest(tmp_path, spec, capsys):
    assert shard(spec, tmp_path / "out") == 0
    assert "1 of 121 images could not be read: see " in capsys.readouterr().err
    assert sets.rejections(tmp_path / "out") == {"0/broken.png": "empty file"}
    manifest, _ = sets.read_set(tmp_path / "out")
    assert (manifest.num_images, manifest.num_rejected) == (120, 1)


def test_the_last_line_says_what_was_counted(tmp_path, spec, capsys):
    assert main(["--input", spec, "--output", str(tmp_path / "out"), "--num-shards", "3"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("shard: ")]
    counted = r"shard: 12[01]/12[01] images, 1 rejected, 3 shards of 0\.0 MB in all, "
    assert re.fullmatch(counted + r"\d+\.\d s each, at most \d+\.\d s", lines[-1])
    assert figures({}, 3) == ""  # of an engine that counts nothing


def test_more_rejected_than_allowed(tmp_path, spec, capsys):
    assert shard(spec, tmp_path / "out", "--max-rejected", "0.001") == 2
    error = capsys.readouterr().err
    assert (
        "1 of 121 images cannot be read, more than the 0.1 % allowed; the first, 0/broken.png: "
        in error
    )
    assert "manifest.json" not in sets.contents(tmp_path / "out")
    assert shard(spec, tmp_path / "out") == 0


def test_the_next_run_cleans_up(tmp_path, spec):
    assert shard(spec, tmp_path / "clean", "--num-shards", "2") == 0
    (tmp_path / "out").mkdir()
    for name in (
        "images-00000-of-00009.tfrecord",
        f"images-00001-of-00009.tfrecord.01ab{storage.TEMPORARY_SUFFIX}",
        "rejected-00001-of-00009.jsonl",
        "rejected.jsonl",
        f"manifest.json.01ab{storage.TEMPORARY_SUFFIX}",
    ):
        (tmp_path / "out" / name).write_bytes(b"half")
    assert shard(spec, tmp_path / "out", "--num-shards", "2") == 0
    assert sets.contents(tmp_path / "out") == sets.contents(tmp_path / "clean")


def test_sizes_and_colours(tmp_path, spec):
    assert shard(spec, tmp_path / "out", "--image-size", "4x3", "--grayscale") == 0
    manifest, block = sets.read_set(tmp_path / "out")
    assert manifest.image_shape == (4, 3)
    assert manifest.source == {
        "input": spec,
        "split": "train",
        "image_size": [4, 3],
        "color": "gray",
    }
    assert block.pixels.shape == (120, 12)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_resizing_is_the_same_for_every_format(tmp_path, kind):
    images, labels = sets.digits(9)
    flags = ("--image-size", "3x4")
    assert shard(sets.FORMATS[kind](tmp_path, images, labels), tmp_path / "out", *flags) == 0
    path = sets.write_idx(tmp_path, images, labels)
    assert shard(path, tmp_path / "expected", *flags) == 0
    _, found = sets.read_set(tmp_path / "out")
    _, expected = sets.read_set(tmp_path / "expected")
    assert sorted(found.pixels.tolist()) == sorted(expected.pixels.tolist())


def test_several_inputs(tmp_path):
    images, labels = sets.digits(8)
    np.savez(tmp_path / "a.npz", x_train=images[:5], y_train=labels[:5])
    np.savez(tmp_path / "b.npz", x_train=images[5:], y_train=labels[5:])
    assert shard(tmp_path / "a.npz", tmp_path / "out", "--input", str(tmp_path / "b.npz")) == 0
    manifest, block = sets.read_set(tmp_path / "out")
    assert manifest.source["input"] == [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    np.testing.assert_array_equal(block.pixels, images.reshape(8, 30))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-shards", "0"], "--num-shards 0: must be at least 1"),
        (["--num-shards", "122"], "--num-shards 122: more than the 121 images"),
        (["--num-shards", "x"], "'x' is not a whole number"),
        (["--image-size", "28"], "'28' is not HxW in pixels, e.g. 28x28"),
        (["--image-size", "0x5"], "'0x5' is not HxW in pixels"),
        (["--max-rejected", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["--max-rejected", "some"], "'some' is not a number from 0 to 1"),
        (["--split", "test"], "--split test: "),
        (["--num-shard", "3"], "unknown option --num-shard: did you mean --num-shards?"),
        (["--direct_num_worker", "3"], "did you mean --direct_num_workers?"),
        (["--runner", "Nobody"], "--runner Nobody: Unexpected pipeline runner"),
    ],
)
def test_options_that_are_wrong(tmp_path, spec, capsys, flags, message):
    assert shard(spec, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_complete_set_is_not_overwritten(tmp_path, spec, capsys):
    assert shard(spec, tmp_path / "out") == 0
    before = sets.contents(tmp_path / "out")
    assert shard("digits", tmp_path / "out") == 2
    assert "holds a complete set of shards; use it, or add --overwrite" in capsys.readouterr().err
    assert sets.contents(tmp_path / "out") == before
    assert shard("digits", tmp_path / "out", "--overwrite") == 0
    assert sets.read_set(tmp_path / "out")[0].num_images == 1797
    assert "rejected.jsonl" not in sets.contents(tmp_path / "out")


@pytest.mark.parametrize("name", ["thesis.tex", "images-of-us.png", "rejected-drafts"])
def test_a_folder_that_holds_something_else(tmp_path, spec, capsys, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    assert shard(spec, tmp_path / "out", "--overwrite") == 2
    assert f"holds something else ({name}); give a new or empty" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "precious"


def test_a_folder_called_like_a_file_of_ours_is_not_removed(tmp_path, spec, capsys):
    (tmp_path / "out" / "manifest.json").mkdir(parents=True)
    assert shard(spec, tmp_path / "out", "--overwrite") == 2
    assert "out: holds a folder manifest.json; give a new or empty" in capsys.readouterr().err
    assert (tmp_path / "out" / "manifest.json").is_dir()


def test_a_folder_that_another_job_writes_to(tmp_path, spec, capsys, monkeypatch):
    monkeypatch.setattr(storage.local, "LOCK_SECONDS", 0.0)
    with storage.locked(str(tmp_path / "out")):
        assert shard(spec, tmp_path / "out", "--overwrite") == 2
    assert "out: another kmeans-job is writing there; wait" in capsys.readouterr().err
    assert shard(spec, tmp_path / "out") == 0


def test_output_that_is_a_file(tmp_path, spec, capsys):
    (tmp_path / "out").write_text("precious")
    assert shard(spec, tmp_path / "out") == 2
    assert "out: a file; give a folder" in capsys.readouterr().err


def test_output_that_cannot_be_written(tmp_path, spec, capsys):
    (tmp_path / "file").write_text("")
    assert shard(spec, tmp_path / "file" / "out") == 2
    assert "cannot write: Not a directory; check the path" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [[], ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]]
)
def test_a_fault_within_beam_is_one_line(tmp_path, flags):
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    out = tmp_path / "out"
    command = ["-m", "pipeline", "--input", str(tmp_path / "rows.npy"), "--output", str(out)]
    run = subprocess.run(
        [sys.executable, *command, "--quiet", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    message = "rows.npy: image train/00002 has a pixel that is nan; remove or mend it"
    assert run.stderr == f"kmeans-job: error: {tmp_path}/{message}\n"
    assert sets.contents(out) == {}


@pytest.mark.slow
def test_a_large_folder_with_all_that_can_be_wrong(tmp_path):
    images, _ = sets.digits(10_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    odd = ["with space.png", "quo'te\".png", "new\nline.png", "ünïcode.png", "日本.png"]
    names = odd + [f"{i:05d}.png" for i in range(10_000 - len(odd))]
    for name, pixels in zip(names, images, strict=True):
        (folder / name).write_bytes(sets.encoded(pixels))
    bad = {
        "truncated.png": sets.encoded(images[0])[:60],
        "empty.png": b"",
        "text.png": b"hello",
        "bomb.png": png_header(50_000, 50_000),
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    (folder / "loop").symlink_to(folder)
    assert shard(folder, tmp_path / "out", "--num-shards", "3") == 0
    assert sets.rejections(tmp_path / "out").keys() == bad.keys()
    manifest, block = sets.read_set(tmp_path / "out")
    assert (manifest.num_images, manifest.num_rejected) == (10_000, 4)
    assert sorted(block.ids) == sorted(names)


def test_a_killed_run_leaves_no_manifest_and_the_next_one_works(tmp_path):
    """Killed as soon as it has begun to write, with no chance to clean up."""
    images, labels = sets.digits(4000)
    path = sets.write_folder(tmp_path, images, labels)
    command = [sys.executable, "-m", "pipeline", "--input", path, "--num-shards", "4", "--quiet"]
    out = tmp_path / "out"
    process = subprocess.Popen([*command, "--output", str(out)], cwd=ROOT)
    try:
        while process.poll() is None and not (out.exists() and os.listdir(out)):
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert "manifest.json" not in sets.contents(out)
    assert sets.contents(out) != {}
    for folder in (out, tmp_path / "whole"):
        subprocess.run([*command, "--output", str(folder)], cwd=ROOT, check=True)
    assert sets.contents(out) == sets.contents(tmp_path / "whole")


def test_listing_that_fails_once_is_tried_again(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0, 0))
    folders, refused = storage.folders, []

    def fail_once(path):
        if not refused:
            refused.append(path)
            raise TransientError(f"{path}: cannot list")
        return folders(path)

    monkeypatch.setattr(storage, "folders", fail_once)
    assert shard(spec, tmp_path / "out") == 0
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("num_images", "side", "expected"), [(10, 6000, 10), (1, 9, 1), (99, 9, 1)]
)
def test_few_large_images_make_few_shards(num_images, side, expected):
    source = Numbers(num_images, image_shape=(side, side, 3))
    assert num_shards_of(source, None) == expected
    with pytest.raises(UserError, match="--num-shards 100: more than the"):
        num_shards_of(source, 100)

"""What is not read is counted, by ending, in folders and archives."""

import tarfile
import zipfile

import numpy as np
import pytest
import sets
from sharded import shard

from pipeline.errors import UserError
from pipeline.sources import open_source

PNG = sets.encoded(np.zeros((3, 4), np.uint8))
# One of each unknown kind, in folders and beside them.
UNKNOWN = [
    "a/1.txt",
    "a/2.TXT",
    "a/b/3.psd",
    "4.mp4",
    "a/no-ending",
    "5.parquet",
    "a/6.tar",
    "7.xml",
]
# What systems and tools leave: images by their names, and some by their content too.
HIDDEN = ["a/.hidden.txt", "a/.DS_Store", "._1.png", "a/._1.png", ".git/a/1.png"]
SAID = "13 files are not read: 5 hidden, 2 .txt, "


def put(root) -> None:
    for name in [*UNKNOWN, *HIDDEN, "a/1.png"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG if name.endswith("png") else b"?")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_one_of_each_unknown_kind(tmp_path, caplog, kind):
    put(tmp_path / "set")
    files = [path for path in sorted((tmp_path / "set").rglob("*")) if path.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(tmp_path / "set"))
    if kind == "tar":
        with tarfile.open(tmp_path / "set.tar", "w") as archive:
            archive.add(tmp_path / "set", ".")
    source = open_source(str(tmp_path / ("set" if kind == "folder" else f"set.{kind}")))
    assert (source.num_images, source.num_skipped) == (1, 13)
    assert caplog.text.count(SAID) == 1
    for ending in (".psd", ".mp4", "no ending", ".parquet", ".tar", ".xml"):
        assert f"1 {ending}" in caplog.text
    manifest, _ = shard(source, tmp_path / "shards", 1)
    assert manifest.num_skipped == 13


def test_hidden_files_beside_tables_and_in_splits(tmp_path, caplog):
    (tmp_path / "tables").mkdir()
    sets.write_parquet(tmp_path / "tables", *sets.digits(5))
    for name in (".gitattributes", ".cache/huggingface/train.parquet", ".cache/state.json"):
        (tmp_path / "tables" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tables" / name).write_bytes(b"")
    source = open_source(str(tmp_path / "tables"))
    assert (source.num_images, source.num_skipped) == (5, 3)
    assert caplog.text.count("3 files are not read: 3 hidden") == 1
    for name in ("train/a/1.png", "test/a/1.png", ".DS_Store", ".git/1.png", "train/.DS_Store"):
        (tmp_path / "split" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "split" / name).write_bytes(PNG)
    source = open_source(str(tmp_path / "split"))
    assert (source.num_images, source.num_skipped) == (1, 3)


def test_what_macos_puts_into_archives(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/1.png", PNG)
        archive.writestr("__MACOSX/a/._1.png", b"?")
    source = open_source(str(tmp_path / "set.zip"))
    assert (source.num_images, source.num_skipped) == (1, 1)
    assert "1 file is not read: 1 hidden" in caplog.text


def test_a_folder_of_hidden_images_alone_says_how_many(tmp_path):
    for name in HIDDEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    with pytest.raises(UserError, match=r"no PNG.* files, but 5 others; give a folder that has"):
        open_source(str(tmp_path))


def test_beside_tables(tmp_path, caplog):
    sets.write_parquet(tmp_path, *sets.digits(5))
    (tmp_path / "README.md").write_text("a set")
    (tmp_path / "dataset_info.json").write_text("{}")
    source = open_source(str(tmp_path))
    assert (source.num_images, source.num_skipped) == (5, 1)
    assert "1 file is not read: 1 .md" in caplog.text


def test_a_folder_of_several_kinds(tmp_path):
    sets.write_parquet(tmp_path, *sets.digits(5))
    sets.write_npz(tmp_path, *sets.digits(5))
    with pytest.raises(UserError, match=r"a folder of several kinds \(Parquet, npz\); give one"):
        open_source(str(tmp_path))


def test_nothing_is_left_out_of_a_set_without_strangers(tmp_path, caplog):
    source = open_source(sets.write_folder(tmp_path, *sets.digits(5)))
    assert source.num_skipped == 0
    assert not caplog.text


def test_what_a_pattern_matches(tmp_path, caplog):
    put(tmp_path / "set")
    (tmp_path / "set/a/6.tar").unlink()
    source = open_source(str(tmp_path / "set/a/*.*"))
    assert (source.num_images, source.num_skipped) == (1, 2)
    assert "2 files are not read: 2 .txt" in caplog.text
    with pytest.raises(UserError, match=r"1\.txt: not a format this version reads"):
        open_source(str(tmp_path / "set/a/*.txt"))

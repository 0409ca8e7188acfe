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
SAID = "8 files are not read: 2 .txt, "


def put(root) -> None:
    for name in [*UNKNOWN, "a/1.png", "a/.hidden.txt"]:
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
    assert (source.num_images, source.num_skipped) == (1, 8)
    assert caplog.text.count(SAID) == 1
    for ending in (".psd", ".mp4", "no ending", ".parquet", ".tar", ".xml"):
        assert f"1 {ending}" in caplog.text
    manifest, _ = shard(source, tmp_path / "shards", 1)
    assert manifest.num_skipped == 8


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

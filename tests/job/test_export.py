"""What `export` writes: folders of images, lists, and nothing over what is there."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from job import export as exporting
from job.cli import main
from job.config import ExportConfig
from job.export import export, file_name
from pipeline import storage
from pipeline.errors import UserError

STRANGE = [
    "a/b",
    "a%2Fb",
    "..",
    ".",
    ".hidden",
    "=1+1",
    "tab\there",
    "line\nbreak",
    "é😀",
    "x" * 900,
]


@pytest.fixture(scope="module")
def run(make_shards, fit):
    """The result of 60 images uint8 [2, 3] with strange ids; the first two are the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 2, 3), np.uint8)
    pixels[1] = pixels[0]
    ids = [STRANGE[i] if i < len(STRANGE) else f"photos/{i}.png" for i in range(60)]
    labels = np.arange(60) % 2
    return fit(make_shards(pixels, labels=labels, ids=ids, num_shards=3), 4), pixels, ids


def exported(folder, what: str) -> list[dict[str, str]]:
    """The rows of a list."""
    with (Path(folder) / f"{what}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def asked(run, output, **options) -> ExportConfig:
    return ExportConfig(run=str(run[0].folder), output=str(output), quiet=True, **options)


def test_every_image_is_in_the_folder_of_its_cluster_with_its_pixels(run, tmp_path):
    result, pixels, ids = run
    assert export(asked(run, tmp_path / "out")) == 60
    rows = exported(tmp_path / "out", "clusters")
    assert {row["id"] for row in rows} == set(ids)
    by_id = dict(zip(result.rows["id"].to_pylist(), result.clusters.tolist(), strict=True))
    for row in rows:
        assert int(row["cluster"]) == by_id[row["id"]]
        assert row["file"].startswith(f"cluster-{by_id[row['id']]:03d}/")
        picture = np.array(Image.open(tmp_path / "out" / row["file"]))
        np.testing.assert_array_equal(picture, pixels[ids.index(row["id"])])
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 60 + 2


def test_a_balanced_selection_has_as_many_of_each_cluster_wherever_images_lie(run, tmp_path):
    export(asked(run, tmp_path / "out", per_cluster=3))
    rows = exported(tmp_path / "out", "clusters")
    assert [int(row["cluster"]) for row in rows] == [c for c in range(4) for _ in range(3)]


def test_representatives_are_the_nearest_and_outliers_the_farthest(run, tmp_path):
    result, _, _ = run
    for what, best in (("representatives", min), ("outliers", max)):
        export(asked(run, tmp_path / what, what=what, per_cluster=1))
        for row in exported(tmp_path / what, what):
            own = result.distances[result.clusters == int(row["cluster"])]
            assert np.float32(row["distance"]) == best(own)


def test_outliers_and_duplicates_are_those_of_the_findings(run, tmp_path):
    from job.result.read import read_findings

    found = read_findings(str(run[0].folder))
    export(asked(run, tmp_path / "outliers", what="outliers"))
    rows = exported(tmp_path / "outliers", "outliers")
    assert [row["id"] for row in rows] == [outlier["id"] for outlier in found["outliers"]]
    export(asked(run, tmp_path / "same", what="duplicates"))
    rows = exported(tmp_path / "same", "duplicates")
    assert [(row["group"], row["id"]) for row in rows] == [("0", "a%2Fb"), ("0", "a/b")]
    assert len({row["file"] for row in rows}) == 2


@pytest.fixture
def originals(make_shards, fit, tmp_path):
    """A result of files in tmp_path/photos, one with a name that is no UTF-8."""
    names = [b"cat/1.png", b"cat/\xff.png", b"dog/\\x41.png", "dog/ü 3.png".encode()]
    from pipeline.sources.checks import text_of

    for number, name in enumerate(names):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"file %d" % number)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
    return fit(make_shards(pixels, ids=[text_of(name) for name in names]), 2), names


@pytest.mark.parametrize("link", [False, True])
def test_original_files_are_copied_or_linked(originals, tmp_path, link):
    config = asked(originals, tmp_path / "out", images=str(tmp_path / "photos"), link=link)
    export(config)
    rows = exported(tmp_path / "out", "clusters")
    ids = originals[0].rows["id"].to_pylist()
    assert sorted(row["id"] for row in rows) == ids
    contents = {(tmp_path / "out" / row["file"]).read_bytes() for row in rows}
    assert contents == {b"file %d" % number for number in range(4)}
    assert all((tmp_path / "out" / row["file"]).is_symlink() == link for row in rows)


def test_nothing_is_written_over_what_is_there(run, tmp_path):
    export(asked(run, tmp_path / "done"))
    with pytest.raises(UserError, match="holds a complete export; give another folder"):
        export(asked(run, tmp_path / "done"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds something else \(notes.txt\)"):
        export(asked(run, tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_export_that_died_goes_on_and_another_is_refused(run, tmp_path, monkeypatch):
    written = []

    def write(path, data):
        if len(written) == 25:
            raise KeyboardInterrupt
        written.append(path)
        storage.write_once(path, data)

    monkeypatch.setattr(exporting.storage, "write_bytes", write)
    with pytest.raises(KeyboardInterrupt):
        export(asked(run, tmp_path / "out"))
    assert not (tmp_path / "out" / "clusters.csv").exists()
    monkeypatch.undo()
    with pytest.raises(UserError, match="holds the beginning of another export"):
        export(asked(run, tmp_path / "out", per_cluster=2))
    before = {path: path.stat().st_mtime_ns for path in map(Path, written)}
    assert export(asked(run, tmp_path / "out")) == 60
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = tmp_path / "whole"
    export(asked(run, whole))
    for path in whole.rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_what_cannot_be_exported_says_why(run, make_shards, fit, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--link: of which files"):
        export(asked(run, out, link=True))
    with pytest.raises(UserError, match="--per-cluster: not with --what duplicates"):
        export(asked(run, out, what="duplicates", per_cluster=2))
    with pytest.raises(UserError, match="is not there; give the folder that the ids start from"):
        export(asked(run, tmp_path / "o", images=str(tmp_path), what="representatives"))
    vectors = fit(make_shards(np.random.default_rng(0).normal(size=(9, 4)).astype("f4")), 2)
    with pytest.raises(UserError, match="hold vectors and no pictures"):
        export(asked((vectors,), out))
    export(asked((vectors,), out, what="representatives"))
    assert list(exported(out, "representatives")[0]) == ["id", "label", "cluster", "distance"]


def test_to_a_bucket(run, bucket):
    assert export(asked(run, f"{bucket}/out", per_cluster=2)) == 8
    names = sorted(storage.walk(f"{bucket}/out"))
    assert len(names) == 8 + 2
    assert "clusters.csv" in names


def test_the_command_says_where_its_list_is(run, tmp_path, capsys):
    arguments = ["--run", str(run[0].folder), "--output", str(tmp_path / "o"), "--per-cluster", "1"]
    assert main(["export", *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/o/clusters.csv: 4 images\n"


@given(st.lists(st.text(max_size=300), unique=True, max_size=8))
def test_names_are_different_and_safe(ids):
    ids = [name for name in ids if not any("\ud800" <= c <= "\udfff" for c in name)]
    names = [file_name(name) for name in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert 0 < len(name.encode()) <= 255 - len(".png.") - 32 - len(storage.TEMPORARY_SUFFIX)
        assert "/" not in name
        assert not name.startswith(".")
        assert name.isprintable()

"""Archives of images: labels, ids, pieces, and damage."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import sets

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.ids import hashed
from pipeline.sources import Rejection, open_source
from pipeline.sources.archives import contents, zipped

IMAGES, _ = sets.digits(7)
PNGS = [sets.encoded(pixels) for pixels in IMAGES]


def tar(folder, files: list[tuple[str, bytes]], name: str = "set.tar") -> str:
    with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for path, data in files:
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(folder / name)


def zip_of(folder, files: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(folder / "set.zip", "w", method) as archive:
        for path, data in files:
            archive.writestr(path, data)
    return str(folder / "set.zip")


KINDS = {"tar": tar, "tar.gz": lambda *given: tar(*given, name="set.tar.gz"), "zip": zip_of}
FILES = [(f"{'ab'[i % 2]}/{i}.png", data) for i, data in enumerate(PNGS)]


@pytest.mark.parametrize("kind", KINDS)
def test_any_piece(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(contents, "STRIDE", 2)
    source = open_source(KINDS[kind](tmp_path, FILES))
    assert source.label_names == ("a", "b")
    for start in range(7):
        for stop in range(start + 1, 8):
            (block,) = source.read(plan.Piece(0, start, stop))
            np.testing.assert_array_equal(block.pixels, IMAGES[start:stop].reshape(-1, 30))
            assert block.labels.tolist() == [i % 2 for i in range(start, stop)]
            assert block.ids == [name for name, _ in FILES[start:stop]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("names", "labels", "ids"),
    [
        (["1.png", "2.png"], None, ["1.png", "2.png"]),
        (["photos/1.png", "photos/2.png"], None, ["1.png", "2.png"]),
        (["p/a/1.png", "p/b/c/2.png"], ("a", "b"), ["a/1.png", "b/c/2.png"]),
        (["a/1.png", "2.png"], ("a",), ["a/1.png", "2.png"]),
        (
            ["s/train/a/1.png", "s/test/a/2.png", "s/train/b/2.png"],
            ("a", "b"),
            ["train/a/1.png", "train/b/2.png"],
        ),
        (["a/ü.png", "a/b.png", "__MACOSX/a/._b.png"], None, ["ü.png", "b.png"]),
    ],
)
def test_folders_are_labels(tmp_path, kind, names, labels, ids):
    source = open_source(KINDS[kind](tmp_path, [(name, PNGS[0]) for name in names]))
    assert source.label_names == labels
    assert sets.read(source).ids == ids


def test_labels_of_samples(tmp_path):
    files = [
        ("1.cls", b"3"),
        ("1.png", PNGS[0]),
        ("2.png", PNGS[1]),
        ("2.json", b'{"label": 1, "kind": "x"}'),
        ("3.seg.png", PNGS[2]),
        ("3.png", PNGS[2]),
        ("3.txt", b"y"),
    ]
    source = open_source(tar(tmp_path, files))
    assert sets.read(source).labels.tolist() == [3, 1, -1, -1]
    assert source.num_skipped == 1
    other = open_source(tar(tmp_path, files), image_column="png", label_column="kind")
    assert sets.read(other).ids == ["1.png", "2.png", "3.png"]
    assert other.label_names == ("x",)
    assert open_source(tar(tmp_path, files), label_column="txt").label_names == ("y",)


def test_a_label_that_is_nowhere(tmp_path):
    with pytest.raises(
        UserError, match=r"--label-column kind: .* has no files of that ending, and"
    ):
        open_source(tar(tmp_path, FILES), label_column="kind")


def test_several_archives_keep_their_ids_apart(tmp_path):
    tar(tmp_path, FILES[:1], "a.tar")
    tar(tmp_path, FILES[:2], "b.tar")
    source = open_source(str(tmp_path / "*.tar"))
    assert sets.read(source).ids == ["a.tar/a/0.png", "b.tar/a/0.png", "b.tar/b/1.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_repeat_are_positions(tmp_path, kind):
    path = KINDS[kind](tmp_path, [("1.png", PNGS[0]), ("1.png", PNGS[1]), ("2.png", PNGS[2])])
    source = open_source(path).renamed((), np.sort(hashed(["1.png"])))
    name = os.path.basename(path)
    assert sets.read(source).ids == [f"{name}/00000", f"{name}/00001", "2.png"]


def test_links_and_what_cannot_be_unpacked(tmp_path):
    with tarfile.open(path := tmp_path / "set.tar", "w") as archive:
        info = tarfile.TarInfo("1.png")
        info.size = len(PNGS[0])
        archive.addfile(info, io.BytesIO(PNGS[0]))
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "1.png"
        archive.addfile(link)
    found = list(open_source(str(path)).read(plan.Piece(0, 0, 2)))
    assert found[0] == Rejection("2.png", "a link within the archive")
    path = zip_of(tmp_path, [("1.png", PNGS[0])])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("2.png", PNGS[1])
    found = list(open_source(path).read(plan.Piece(0, 0, 2)))
    assert found[0] == Rejection("2.png", "packed by method 14; unpack it")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_end(data: bytes) -> bytes:
    return data[:-10240] if data[257:262] == b"ustar" else data[:-30]


def noise(data: bytes) -> bytes:
    return b"hello" * 300


def flipped(data: bytes) -> bytes:
    """A byte in a header or in packed pixels is another one."""
    place = 1024 + 3 if data[257:262] == b"ustar" else data.index(b"a/0.png") + 20
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("damage", [cut, without_end, noise, flipped])
def test_damage_ends_the_job(tmp_path, kind, damage):
    path = KINDS[kind](tmp_path, FILES)
    data = (tmp_path / f"set.{kind}").read_bytes()
    (tmp_path / f"set.{kind}").write_bytes(damage(data))
    with pytest.raises(UserError, match=rf"set\.{kind}: damaged {kind} archive \(."):
        sets.read(open_source(path))


@pytest.mark.parametrize("kind", KINDS)
def test_no_images(tmp_path, kind):
    with pytest.raises(UserError, match=r"no PNG, JPEG, .* files; nothing to cluster"):
        open_source(KINDS[kind](tmp_path, [("a.txt", b"?")]))


def test_names_of_long_paths(tmp_path):
    names = [f"{'d' * 90}/{'e' * 90}/{i}.png" for i in range(2)]
    assert sets.read(open_source(tar(tmp_path, [(n, PNGS[0]) for n in names]))).ids == [
        "0.png",
        "1.png",
    ]


def test_a_zip_file_after_other_bytes_and_with_wide_numbers(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in FILES:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    data = (tmp_path / "set.zip").read_bytes()
    members = list(zipped.members(io.BytesIO(b"begin" * 100 + data), 0))
    assert [member.read() for member in members] == PNGS


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_bucket(tmp_path, bucket, kind):
    path = KINDS[kind](tmp_path, FILES)
    remote = f"{bucket}/{os.path.basename(path)}"
    storage.write_bytes(remote, (tmp_path / os.path.basename(path)).read_bytes())
    source = open_source(remote)
    (block,) = source.read(plan.Piece(0, 2, 5))
    np.testing.assert_array_equal(block.pixels, IMAGES[2:5].reshape(-1, 30))

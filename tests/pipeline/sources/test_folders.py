"""Folders of image files: labels, ids, what is rejected and what is not seen."""

import os

import numpy as np
import pytest
import sets

from pipeline.errors import TransientError, UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Rejection, folders, open_source
from pipeline.sources.formats import image_formats_text

IMAGES, LABELS = sets.digits(6)


def put(root, *names: str, images=IMAGES) -> str:
    """Good images of these names in the folder `root`."""
    for name, pixels in zip(names, images, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(sets.encoded(pixels))
    return str(root)


def listed(source) -> list[tuple[bytes, int]]:
    return sorted(found for part in source.parts() for found in source.list_part(part))


def read(source) -> list[Block | Rejection]:
    chunks = [chunk for _, chunk in plan.grouped(listed(source), 1)]
    return list(source.read(plan.Listing(0, chunks)))


def ids(source) -> list[str]:
    return [i for found in read(source) if isinstance(found, Block) for i in found.ids]


def test_without_sub_folders_there_are_no_labels(tmp_path):
    source = open_source(put(tmp_path, "b.png", "a.png"))
    assert source.label_names is None
    (block,) = read(source)
    assert block.ids == ["a.png", "b.png"]
    assert block.labels is None
    np.testing.assert_array_equal(block.pixels, IMAGES[[1, 0]].reshape(2, 30))


def test_the_first_sub_folder_is_the_label(tmp_path):
    source = open_source(put(tmp_path, "dog/1.png", "cat/x/2.png", "cat/1.png"))
    assert source.label_names == ("cat", "dog")
    (block,) = read(source)
    assert block.ids == ["cat/1.png", "cat/x/2.png", "dog/1.png"]
    assert block.labels.tolist() == [0, 0, 1]


def test_a_sub_folder_without_images_is_no_label(tmp_path):
    (tmp_path / "empty").mkdir()
    assert open_source(put(tmp_path, "1.png")).label_names is None


def test_an_image_beside_the_sub_folders_has_no_label(tmp_path, caplog):
    source = open_source(put(tmp_path, "cat/1.png", "2.png"))
    (block,) = read(source)
    assert dict(zip(block.ids, block.labels.tolist(), strict=True)) == {"2.png": -1, "cat/1.png": 0}
    assert "1 of 2 images lie in no folder of a label" in caplog.text


def test_names_of_bytes_and_of_their_escapes(tmp_path):
    put(tmp_path, "\\xff.png")
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes((tmp_path / "\\xff.png").read_bytes())
    assert ids(open_source(str(tmp_path))) == ["\\x5cxff.png", "\\xff.png"]


def test_a_folder_within_another_is_read_once(tmp_path, caplog):
    put(tmp_path, "cat/1.png", "dog/1.png")
    source = open_source([str(tmp_path), str(tmp_path / "cat")])
    assert sorted(ids(source)) == ["cat/1.png", "dog/1.png"]
    assert source.label_names == ("cat", "dog")
    assert "lies in a folder that is given too" in caplog.text


def test_links_to_images_that_are_there_anyway(tmp_path, caplog):
    put(tmp_path / "set", "cat/1.png", "cat/.hidden/4.png")
    put(tmp_path, "elsewhere/3.png")
    (tmp_path / "set/dog").mkdir()
    (tmp_path / "set/dog/2.png").symlink_to("../cat/1.png")
    (tmp_path / "set/cats").symlink_to("cat")
    (tmp_path / "set/dog/3.png").symlink_to("../../elsewhere/3.png")
    (tmp_path / "set/dog/4.png").symlink_to("../cat/.hidden/4.png")
    source = open_source(str(tmp_path / "set"))
    assert sorted(ids(source)) == ["cat/1.png", "dog/3.png", "dog/4.png"]
    assert source.label_names == ("cat", "dog")
    assert "2 links lead to images that are read under another name" in caplog.text


def test_several_folders(tmp_path):
    put(tmp_path, "a/cat/1.png", "b/cat/1.png", "b/ant/1.png")
    source = open_source([str(tmp_path / "a"), str(tmp_path / "b")])
    assert source.label_names == ("ant", "cat")
    assert ids(source) == ["b/ant/1.png", "a/cat/1.png", "b/cat/1.png"]


def test_a_glob_of_images(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "b/2.jpg")
    source = open_source(str(tmp_path / "*" / "*.png"))
    assert ids(source) == ["a/1.png", "b/1.png"]
    assert source.label_names is None


def test_endings_in_any_case(tmp_path):
    put(tmp_path, "1.PNG", "2.Png")
    (tmp_path / "notes.txt").write_text("not an image, and not called one")
    (tmp_path / ".hidden.png").write_text("")
    assert ids(open_source(str(tmp_path))) == ["1.PNG", "2.Png"]


def test_names_of_every_kind(tmp_path):
    names = ["a b.png", "new\nline.png", "quo'te\".png", "ünïcode.png", "tab\t.png"]
    assert sorted(ids(open_source(put(tmp_path, *names)))) == sorted(names)


def test_a_name_that_is_no_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    try:
        with open(path, "wb") as file:
            file.write(sets.encoded(IMAGES[0]))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert ids(open_source(str(tmp_path))) == ["\\xff.png"]


def test_a_circle_of_links_adds_nothing(tmp_path):
    put(tmp_path, "1.png", "2.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    source = open_source(str(tmp_path))
    assert source.num_images == 2
    assert source.label_names is None
    assert ids(source) == ["1.png", "2.png"]


def test_what_is_rejected_and_why(tmp_path):
    good = sets.encoded(IMAGES[0])
    put(tmp_path, "good.png")
    (tmp_path / "cut.png").write_bytes(good[:60])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    found = read(open_source(str(tmp_path)))
    assert {row.id: row.reason for row in found if isinstance(row, Rejection)} == {
        "cut.png": "damaged: it ends before its last chunk",
        "empty.png": "empty file",
        "gone.png": "cannot read: No such file or directory",
        "self.png": "cannot read: Too many levels of symbolic links",
        "text.png": f"not a {image_formats_text()} image",
    }
    assert [row.ids for row in found if isinstance(row, Block)] == [["good.png"]]


def test_a_read_that_may_work_later_is_no_rejection(tmp_path, monkeypatch):
    source = open_source(put(tmp_path, "1.png"))

    def fail(path):
        raise TransientError(f"{path}: cannot read: Input/output error")

    monkeypatch.setattr(folders.storage, "read_bytes", fail)
    with pytest.raises(TransientError, match=r"1\.png: cannot read: Input/output error"):
        read(source)


def test_different_shapes(tmp_path):
    put(tmp_path, "1.png", "2.png", "3.png")
    put(tmp_path, "4.png", images=[np.zeros((7, 5), np.uint8)])
    with pytest.raises(UserError) as caught:
        read(open_source(str(tmp_path)))
    text = "images of different shapes: 3 of 6 × 5, 1 of 7 × 5; add --image-size 6x5"
    assert str(caught.value).endswith(text)


def test_colour_and_grey(tmp_path):
    put(tmp_path, "1.png", "2.png")
    put(tmp_path, "3.png", images=[np.zeros((6, 5, 3), np.uint8)])
    source = open_source(str(tmp_path))
    assert source.image_shape == (6, 5, 3)
    (block,) = read(source)
    np.testing.assert_array_equal(block.pixels[0].reshape(6, 5, 3), np.dstack([IMAGES[0]] * 3))
    (block,) = read(open_source(str(tmp_path), color="gray"))
    assert block.pixels.shape == (3, 30)


def test_one_size_for_all(tmp_path):
    put(tmp_path, "1.png", "2.png")
    put(tmp_path, "3.png", images=[np.zeros((70, 50), np.uint8)])
    source = open_source(str(tmp_path), image_size=(4, 3))
    assert source.image_shape == (4, 3)
    (block,) = read(source)
    assert block.pixels.shape == (3, 12)


def test_no_images(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"no PNG, JPEG, .* files, but 1 others; give a folder"):
        open_source(str(tmp_path))


def test_no_readable_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image can be read; the first, a\.png: empty file"):
        open_source(str(tmp_path))


def test_no_splits(tmp_path):
    with pytest.raises(UserError, match=r"--split test: .* has no splits: all of it counts as tr"):
        open_source(put(tmp_path, "1.png"), "test")


def test_blocks_are_of_about_1_mib(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BLOCK_BYTES", 2 * 30)
    source = open_source(put(tmp_path, "1.png", "2.png", "3.png", "4.png", "5.png"))
    assert [len(block.ids) for block in read(source)] == [2, 2, 1]

"""Shards are written whole or not at all, and the same again after a failure. No engine needed."""

import contextlib
import dataclasses
import errno
import subprocess
import sys

import pytest
import sets
from counting_source import Numbers

from pipeline import storage
from pipeline.errors import TransientError, UserError
from pipeline.features.source import transformed
from pipeline.shards import ids, plan
from pipeline.shards.manifest import load_manifest
from pipeline.sources import Rejection, open_source
from pipeline.write import accumulate_piece, complete_set, write_shard


def write(source, folder, num_shards: int = 2, max_rejected: float = 0.1) -> None:
    """What an engine does, in its simplest form."""
    written = [
        storage.retrying(lambda piece=piece: write_shard(source, piece, str(folder), num_shards))
        for piece in plan.pieces(source.num_images, num_shards)
    ]
    complete_set(source, reversed(written), str(folder), num_shards, max_rejected)


@pytest.mark.parametrize("module", ["write", "write_assignments", "transforms"])
def test_no_beam_is_needed(module):
    code = f"import sys, pipeline.{module}; print('apache_beam' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def quick(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0, 0))


def test_manifest_of_what_was_written(tmp_path):
    write(Numbers(), tmp_path)
    manifest, block = sets.read_set(tmp_path)
    assert (manifest.num_images, manifest.num_rejected) == (36, 4)
    assert manifest.label_names == tuple(map(str, range(39)))
    assert manifest.source == {"input": "numbers", "split": "train"}
    assert block.labels.tolist() == [i for i in range(40) if i % 10 != 9]
    assert [s.file for s in manifest.shards] == [
        f"images-0000{i}-of-00002.tfrecord" for i in (0, 1)
    ]


def test_rejected_images_are_listed_in_order(tmp_path):
    write(Numbers(), tmp_path)
    assert list(sets.rejections(tmp_path)) == ["00009", "00019", "00029", "00039"]
    assert sorted(sets.contents(tmp_path)) == [
        "images-00000-of-00002.tfrecord",
        "images-00001-of-00002.tfrecord",
        "manifest.json",
        "rejected.jsonl",
    ]


def test_fingerprint_is_independent_of_shards(tmp_path):
    for num_shards in (1, 3, 16):
        write(Numbers(), tmp_path / str(num_shards), num_shards)
    folders = [str(tmp_path / str(num_shards)) for num_shards in (1, 3, 16)]
    assert len({load_manifest(folder).fingerprint for folder in folders}) == 1


@pytest.mark.parametrize(
    "failure", [TransientError("set: cannot read"), OSError(errno.EIO, "Input/output error")]
)
def test_a_read_that_fails_once_is_tried_again(tmp_path, quick, failure):
    write(Numbers(), tmp_path / "smooth")
    source = Numbers(failures=(failure,))
    write(source, tmp_path / "bumpy")
    assert len(source.tries) == 1
    assert sets.contents(tmp_path / "bumpy") == sets.contents(tmp_path / "smooth")


@pytest.mark.parametrize(
    "failures", [(TransientError("gone"),) * 9, (UserError("damaged"),), (ZeroDivisionError(),)]
)
def test_a_run_that_dies_leaves_no_manifest(tmp_path, quick, failures):
    with pytest.raises(type(failures[0])):
        write(Numbers(failures=failures), tmp_path)
    assert sets.contents(tmp_path) == {}


def test_a_piece_written_twice_is_the_same(tmp_path):
    piece = plan.Piece(1, 3, 25)
    first = write_shard(Numbers(), piece, str(tmp_path), 2)
    before = sets.contents(tmp_path)
    second = write_shard(Numbers(), piece, str(tmp_path), 2)
    assert sets.contents(tmp_path) == before
    assert (first.shard, first.fingerprint.hex()) == (second.shard, second.fingerprint.hex())


def test_completing_twice_is_completing_once(tmp_path):
    source, folder = Numbers(), str(tmp_path)
    written = [write_shard(source, piece, folder, 2) for piece in plan.pieces(40, 2)]
    complete_set(source, written, folder, 2, 0.1)
    before = sets.contents(tmp_path)
    complete_set(source, written, folder, 2, 0.1)
    assert sets.contents(tmp_path) == before


def test_what_dead_workers_left_is_removed(tmp_path):
    (tmp_path / f"images-00000-of-00002.tfrecord.0abc{storage.TEMPORARY_SUFFIX}").write_bytes(b"x")
    (tmp_path / "rejected-00000-of-00003.jsonl").write_bytes(b"x")
    write(Numbers(), tmp_path)
    assert len(sets.contents(tmp_path)) == 4


def test_too_many_rejected(tmp_path):
    with pytest.raises(
        UserError, match=r"^4 of 40 images cannot be read, more than the 9 % allowed; the"
    ):
        write(Numbers(), tmp_path, max_rejected=0.09)
    assert "manifest.json" not in sets.contents(tmp_path)
    assert len(sets.rejections(tmp_path)) == 4


def test_all_rejected(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Bad(Numbers):
        def read(self, piece):
            yield from (Rejection(str(i), "bad") for i in range(piece.start, piece.stop))

    with pytest.raises(UserError, match="40 of 40 images cannot be read; the first, 0: bad; mend"):
        write(Bad(), tmp_path, max_rejected=1.0)


def test_labels_without_names(tmp_path):
    with pytest.raises(UserError, match="numbers: label 38, but only 2 names of labels"):
        write(Numbers(label_names=("a", "b")), tmp_path)


def test_a_shard_that_no_image_fell_on(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Empty(Numbers):
        def read(self, piece):
            if isinstance(piece, plan.Piece):
                yield from super().read(piece)

    source, folder = Empty(), str(tmp_path)
    complete_set(source, [write_shard(source, plan.Piece(1, 0, 5), folder, 3)], folder, 3)
    assert [shard.num_images for shard in load_manifest(folder).shards] == [0, 5, 0]


def test_a_write_that_is_interrupted_leaves_nothing(tmp_path):
    with contextlib.suppress(KeyboardInterrupt):
        write_shard(Numbers(failures=(KeyboardInterrupt(),)), plan.Piece(0, 0, 9), str(tmp_path), 1)
    assert sets.contents(tmp_path) == {}


def tfrecord(folder, rows) -> str:
    """A TFRecord file of images of one pixel, each its number."""
    pixel = {"image/height": 1, "image/width": 1, "image/channels": 1}
    examples = [{"image/raw": bytes([i]), **pixel, **row} for i, row in enumerate(rows)]
    (folder / "set.tfrecord").write_bytes(sets.records(examples))
    return str(folder / "set.tfrecord")


@pytest.mark.parametrize("num_shards", [1, 2, 5])
def test_ids_that_repeat_in_other_shards_become_positions(tmp_path, caplog, num_shards):
    names = [f"{number % 4 if number < 6 else number}.png" for number in range(10)]
    path = tfrecord(tmp_path, ({"image/filename": name, "label": 3} for name in names))
    write(open_source(path), tmp_path / "s", num_shards)
    manifest, block = sets.read_set(tmp_path / "s")
    twice = {0, 1, 4, 5}
    expected = [f"set.tfrecord/0000{i}" if i in twice else names[i] for i in range(10)]
    assert dict(zip(block.ids, block.pixels[:, 0].tolist(), strict=True)) == {
        name: number for number, name in enumerate(expected)
    }
    assert "4 of 10 images bring an id that another one has too, like 0.png" in caplog.text
    assert not [name for name in sets.contents(tmp_path / "s") if name.startswith("ids-")]
    write(open_source(path), tmp_path / "one", 1)
    assert load_manifest(str(tmp_path / "one")).fingerprint == manifest.fingerprint


def test_rewriting_that_is_interrupted_is_done_again_alike(tmp_path):
    path = tfrecord(tmp_path, ({"image/filename": f"{i % 3}"} for i in range(6)))
    source, smooth, bumpy = open_source(path), tmp_path / "smooth", tmp_path / "bumpy"
    write(source, smooth, 3)
    pieces = plan.pieces(6, 3)
    written = [write_shard(source, piece, str(bumpy), 3) for piece in pieces]
    complete_set(source, written, str(bumpy), 3)
    ids.write_part(str(bumpy / ids.part_file(1, 3)), [])  # as if the other notes were removed
    complete_set(source, written, str(bumpy), 3)
    (bumpy / ids.part_file(1, 3)).unlink()
    assert sets.contents(bumpy) == sets.contents(smooth)


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([None, 2, 0, -1], ("0", "1", "2"), [-1, 2, 0, -1]),
        ([None, 1 << 40, -7, 2], ("-7", "2", str(1 << 40)), [-1, 2, 0, 1]),
        ([None, "dog", "cat", "dog"], ("cat", "dog"), [-1, 1, 0, 1]),
        ([None, -1, None, -1], None, None),
    ],
)
@pytest.mark.parametrize("num_shards", [1, 4])
def test_labels_that_the_first_image_does_not_tell(tmp_path, labels, names, numbers, num_shards):
    rows = ({} if label is None else {"label": label} for label in labels)
    write(open_source(tfrecord(tmp_path, rows)), tmp_path / "s", num_shards)
    manifest, block = sets.read_set(tmp_path / "s")
    assert manifest.label_names == names
    assert (None if block.labels is None else block.labels.tolist()) == numbers


def test_labels_of_two_kinds(tmp_path):
    source = open_source(tfrecord(tmp_path, [{}, {"label": 3}, {"label": "cat"}]))
    with pytest.raises(UserError, match="labels of two kinds, integers like 3 and names like cat"):
        write(source, tmp_path / "s", 3)


def test_vectors_of_images_whose_ids_repeat(tmp_path):
    pixel = {"image/height": 1, "image/width": 2, "image/channels": 1, "image/filename": "a"}
    rows = [{"image/raw": bytes([i, i * i]), **pixel} for i in range(4)]
    (tmp_path / "set.tfrecord").write_bytes(sets.records(rows))
    source = transformed(open_source(str(tmp_path / "set.tfrecord")), "pca:1", str(tmp_path / "s"))
    source.learn(accumulate_piece(source, plan.Piece(0, 0, 4)))
    write(source, tmp_path / "s", 2)
    _, block = sets.read_set(tmp_path / "s")
    assert block.ids == [f"set.tfrecord/0000{i}" for i in range(4)]

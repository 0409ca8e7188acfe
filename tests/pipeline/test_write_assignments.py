"""Assignments of new images are written whole or not at all. No engine needed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sets
from counting_source import Numbers
from models import save_model

from pipeline import storage
from pipeline.errors import Refused
from pipeline.nearest import Model, Nearest, read_model
from pipeline.shards import plan
from pipeline.shards.assignments import SCHEMA
from pipeline.write_assignments import complete_assignments, write_assignments


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def numbers(tmp_path) -> Model:
    """A model of images like those of `Numbers`."""
    centroids = np.repeat([[0.02], [0.1]], 4, axis=1)
    return read_model(str(save_model(tmp_path / "model", centroids, (2, 2))))


def write(source, model: Model, folder: Path, num_shards: int = 2) -> None:
    """What an engine does, in its simplest form."""
    nearest = Nearest(model)
    written = [
        storage.retrying(
            lambda piece=piece: write_assignments(source, piece, nearest, str(folder), num_shards)
        )
        for piece in plan.pieces(40, num_shards)
    ]
    complete_assignments(source, model, reversed(written), str(folder), num_shards, 0.1)


@pytest.mark.parametrize("failure", [Refused("cannot read"), OSError(5, "Input/output error")])
def test_a_read_that_fails_once_is_tried_again(tmp_path, numbers, monkeypatch, failure):
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0, 0))
    write(Numbers(), numbers, tmp_path / "smooth")
    source = Numbers(failures=(failure,))
    write(source, numbers, tmp_path / "bumpy")
    assert len(source.tries) == 1
    assert files_of(tmp_path / "bumpy") == files_of(tmp_path / "smooth")
    assert list(sets.rejections(tmp_path / "bumpy")) == ["00009", "00019", "00029", "00039"]


def test_completing_twice_is_completing_once(tmp_path, numbers):
    folder, nearest = str(tmp_path / "out"), Nearest(numbers)
    written = [write_assignments(Numbers(), p, nearest, folder, 2) for p in plan.pieces(40, 2)]
    complete_assignments(Numbers(), numbers, written, folder, 2, 0.1)
    before = files_of(tmp_path / "out")
    complete_assignments(Numbers(), numbers, written, folder, 2, 0.1)
    assert files_of(tmp_path / "out") == before


def test_a_write_that_dies_leaves_nothing(tmp_path, numbers):
    source = Numbers(failures=(ZeroDivisionError(),))
    with pytest.raises(ZeroDivisionError):
        write_assignments(source, plan.Piece(0, 0, 9), Nearest(numbers), str(tmp_path / "out"), 1)
    assert files_of(tmp_path / "out") == {}


def test_a_piece_that_no_image_fell_on(tmp_path, numbers):
    @dataclasses.dataclass(frozen=True)
    class Empty(Numbers):
        def read(self, piece):
            if isinstance(piece, plan.Piece):
                yield from super().read(piece)

    folder = str(tmp_path / "out")
    written = write_assignments(Empty(), plan.Piece(1, 0, 5), Nearest(numbers), folder, 3)
    complete_assignments(Empty(), numbers, [written], folder, 3)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [entry["num_images"] for entry in manifest["files"]] == [0, 5, 0]
    assert pq.read_table(tmp_path / "out" / "assignments").schema == SCHEMA

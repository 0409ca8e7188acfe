"""Arrays of images that are resized or lose their colours."""

import numpy as np
import pytest
import sets

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import open_source
from pipeline.sources.pictures.converted import Converted


def test_arrays_can_be_resized(tmp_path):
    images, labels = sets.digits(4)
    source = open_source(sets.write_npz(tmp_path, images, labels), image_size=(3, 10))
    assert isinstance(source, Converted)
    assert source.image_shape == (3, 10)


def test_floats_cannot_be_resized(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 4), np.float32))
    with pytest.raises(UserError, match="holds float32 of shape 4; only uint8 images can be conv"):
        open_source(str(tmp_path / "rows.npy"), image_size=(3, 10))


def test_rows_cannot_be_resized(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 4), np.uint8))
    with pytest.raises(UserError, match="holds pixels of shape 4, which is no image; only uint8"):
        open_source(str(tmp_path / "rows.npy"), color="gray")


def test_converted_source_in_small_blocks(tmp_path):
    images, labels = sets.digits(7)
    path = sets.write_npz(tmp_path, images, labels)
    source = open_source(path, image_size=(600, 900))
    blocks = list(source.read(plan.Piece(0, 1, 6)))
    assert [block.pixels.shape for block in blocks] == [(1, 540_000)] * 5
    assert [block.ids[0] for block in blocks] == [f"train/0000{i}" for i in range(1, 6)]
    assert [int(block.labels[0]) for block in blocks] == labels[1:6].tolist()

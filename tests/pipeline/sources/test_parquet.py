"""Parquet files: every kind of column that is read, and damage."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sets
from sets import read

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import Rejection, open_source

IMAGES, LABELS = sets.digits(6)
PNGS = [sets.encoded(pixels) for pixels in IMAGES]


def put(folder, columns: dict, name="set.parquet", metadata=None, **options) -> str:
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, folder / name, **options)
    return str(folder / name)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes(tmp_path, kind):
    source = open_source(put(tmp_path, {"image": pa.array(PNGS, kind), "label": LABELS}))
    block = read(source)
    np.testing.assert_array_equal(block.pixels, IMAGES.reshape(6, 30))
    assert block.labels.tolist() == LABELS.tolist()
    assert block.ids[5] == "set.parquet/00005"


def test_hugging_faces_struct_and_names(tmp_path):
    features = {"label": {"names": ["no", "yes", "maybe"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    rows = [{"bytes": png, "path": None} for png in PNGS]
    source = open_source(put(tmp_path, {"image": rows, "label": LABELS}, metadata=metadata))
    assert source.label_names == ("no", "yes", "maybe")
    np.testing.assert_array_equal(read(source).pixels, IMAGES.reshape(6, 30))


def test_names_as_labels(tmp_path):
    source = open_source(put(tmp_path, {"image": PNGS[:4], "label": list("cabc")}))
    assert source.label_names == ("a", "b", "c")
    assert read(source).labels.tolist() == [2, 0, 1, 2]


def test_no_labels(tmp_path):
    source = open_source(put(tmp_path, {"image": PNGS}))
    assert source.label_names is None
    assert read(source).labels is None


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float32(), 3)]
)
@pytest.mark.parametrize("name", ["image", "features", "embedding"])
def test_float_lists(tmp_path, kind, name):
    rows = [[1.5, -2.0, 0.25], [0.0, 1.0, 2.0]]
    source = open_source(put(tmp_path, {name: pa.array(rows, kind)}))
    assert (source.image_shape, source.dtype) == ((3,), "float32")
    assert read(source).pixels.tolist() == rows


def test_any_piece_of_several_files(tmp_path):
    """Pieces begin within row groups, and in another file."""
    put(tmp_path, {"image": PNGS[:5]}, "a.parquet", row_group_size=2)
    put(tmp_path, {"image": PNGS[5:]}, "b.parquet")
    source = open_source(str(tmp_path / "*.parquet"))
    for start in range(6):
        for stop in range(start + 1, 7):
            (block,) = source.read(plan.Piece(0, start, stop))
            np.testing.assert_array_equal(
                block.pixels, IMAGES[start:stop].reshape(stop - start, 30)
            )


def test_pieces_within_batches(tmp_path):
    images, labels = sets.digits(150)
    source = open_source(sets.write_parquet(tmp_path, images, labels))
    (block,) = source.read(plan.Piece(0, 3, 140))
    np.testing.assert_array_equal(block.pixels, images[3:140].reshape(137, 30))
    assert block.labels.tolist() == labels[3:140].tolist()


def test_what_is_rejected_and_why(tmp_path):
    rows = [PNGS[0], PNGS[0][:60], None, PNGS[0]]
    source = open_source(put(tmp_path, {"image": rows, "label": [1, 1, 1, None]}))
    found = [row for row in source.read(plan.Piece(0, 0, 4)) if isinstance(row, Rejection)]
    assert found == [
        Rejection("set.parquet/00001", "damaged: it ends before its last chunk"),
        Rejection("set.parquet/00002", "no image in this row"),
        Rejection("set.parquet/00003", "no label, though others have one"),
    ]


def test_rows_of_another_length_are_rejected(tmp_path):
    source = open_source(put(tmp_path, {"features": [[1.0, 2.0], [1.0], None]}))
    found = [row for row in source.read(plan.Piece(0, 0, 3)) if isinstance(row, Rejection)]
    assert [row.reason for row in found] == ["1 values instead of 2", "no image in this row"]


def test_a_value_that_is_missing(tmp_path):
    path = put(tmp_path, {"features": [[1.0, 2.0], [1.0, None]]})
    with pytest.raises(UserError, match=r"image set\.parquet/00001 has a pixel that is nan"):
        read(open_source(path))


@pytest.mark.parametrize("label", [-1, 70_000])
def test_labels_out_of_range(tmp_path, label):
    path = put(tmp_path, {"image": PNGS[:2], "label": [0, label]})
    with pytest.raises(UserError, match=rf"image set\.parquet/00001 has label {label}; integers"):
        read(open_source(path))


def test_labels_that_are_neither_integers_nor_names(tmp_path):
    with pytest.raises(UserError, match="labels of type double; integers or strings are needed"):
        open_source(put(tmp_path, {"image": PNGS[:1], "label": [0.5]}))


@pytest.mark.parametrize(
    "columns", [{"picture": PNGS[:1]}, {"image": ["text"]}, {"image": [[1, 2]]}, {"image": [1]}]
)
def test_no_column_of_images(tmp_path, columns):
    name = next(iter(columns))
    with pytest.raises(UserError, match=rf"set\.parquet: no column image of encoded.*has {name}: "):
        open_source(put(tmp_path, columns))


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "set.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"set\.parquet: damaged or no Parquet file"):
        open_source(str(tmp_path / "set.parquet"))


def test_damage_within(tmp_path):
    path = put(tmp_path, {"image": PNGS, "label": LABELS}, compression="zstd")
    data = bytearray((tmp_path / "set.parquet").read_bytes())
    data[4:150] = bytes(146)
    (tmp_path / "set.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"set\.parquet: damaged or no Parquet file"):
        read(open_source(path))


def test_no_rows(tmp_path):
    with pytest.raises(UserError, match="0 images; nothing to cluster"):
        open_source(put(tmp_path, {"image": pa.array([], pa.binary())}))

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
    *found, block = source.read(plan.Piece(0, 0, 4))
    assert found == [
        Rejection("set.parquet/00001", "damaged: it ends before its last chunk"),
        Rejection("set.parquet/00002", "no image in this row"),
    ]
    assert block.labels.tolist() == [1, -1]


def test_rows_of_another_length_are_rejected(tmp_path):
    source = open_source(put(tmp_path, {"features": [[1.0, 2.0], [1.0], None]}))
    found = [row for row in source.read(plan.Piece(0, 0, 3)) if isinstance(row, Rejection)]
    assert [row.reason for row in found] == ["1 values instead of 2", "no image in this row"]


def test_a_value_that_is_missing(tmp_path):
    path = put(tmp_path, {"features": [[1.0, 2.0], [1.0, None]]})
    with pytest.raises(UserError, match=r"image set\.parquet/00001 has a pixel that is nan"):
        read(open_source(path))


@pytest.mark.parametrize(
    ("column", "names", "labels"),
    [
        ([0, -1, None, 2], (), [0, -1, -1, 2]),
        ([0.0, float("nan"), 3.0, -1.0], (), [0, -1, 3, -1]),
        ([True, False, None, True], (), [1, 0, -1, 1]),
        ([7, 70_000, -3, -1], ("-3", "7", "70000"), [1, 2, 0, -1]),
        (pa.array(["b", "a", None, "b"]).dictionary_encode(), ("a", "b"), [1, 0, -1, 1]),
        (pa.array(["b", "a", None, "b"], pa.string_view()), ("a", "b"), [1, 0, -1, 1]),
        (pa.array([b"b", b"\xff", None, b"b"]), ("\\xff", "b"), [1, 0, -1, 1]),
        ([[0, 1], [1, 0], None, [0, 1]], (), [1, 0, -1, 1]),
        ([[0.0, 1.0], [1.0, 0.0], None, [0.0, 1.0]], (), [1, 0, -1, 1]),
        (pa.nulls(4), (), [-1, -1, -1, -1]),
    ],
)
def test_labels_of_every_kind(tmp_path, column, names, labels):
    source = open_source(put(tmp_path, {"image": PNGS[:4], "label": column}))
    assert source.label_names == names
    assert read(source).labels.tolist() == labels


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([0.5], r"set\.parquet: label: a label of 0\.5; 64-bit integers or names are needed"),
        (pa.array([(1 << 64) - 1], pa.uint64()), "a label of 18446744073709551615"),
        ([[1, 1, 0]], r"a label of 3 values \(1, 1, 0\), which is not one-hot"),
        (["x" * 4097], "a label of more than 4,096 bytes, xxxxx"),
        ([{"a": 1}], "a label of type dict; integers or names are needed"),
        (pa.array([0], pa.timestamp("s")), "a label of type datetime; integers or names are"),
    ],
)
def test_labels_that_are_none(tmp_path, label, message):
    with pytest.raises(UserError, match=message):
        open_source(put(tmp_path, {"image": PNGS[:1], "label": label}))


def test_columns_of_one_name(tmp_path):
    table = pa.table(
        [pa.array(PNGS[:1]), pa.array([0]), pa.array([1])], ["image", "label", "label"]
    )
    pq.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(UserError, match=r"set\.parquet: 2 columns are called label; rename"):
        open_source(str(tmp_path / "set.parquet"))


def classes(folder, name: str, names: list[str] | None, labels: list) -> None:
    """A file of images with Hugging Face's names of classes."""
    table = pa.table({"image": PNGS[: len(labels)], "label": labels})
    if names is not None:
        facts = {"info": {"features": {"label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
    pq.write_table(table, folder / name)


def test_classes_of_several_files_are_joined_by_name(tmp_path):
    classes(tmp_path, "a.parquet", ["cat", "dog"], [0, 1])
    classes(tmp_path, "b.parquet", ["dog", "ant"], [0, 1])
    classes(tmp_path, "c.parquet", None, ["cat", "élan"])
    source = open_source(str(tmp_path / "*.parquet"))
    names = source.label_names
    assert names == ("ant", "cat", "dog", "élan")
    found = [names[label] for label in read(source).labels]
    assert found == ["cat", "dog", "dog", "ant", "cat", "élan"]


def test_integers_beside_names(tmp_path):
    classes(tmp_path, "a.parquet", ["cat", "dog"], [0, 1])
    classes(tmp_path, "b.parquet", None, [0, 1])
    classes(tmp_path, "c.parquet", None, ["cat", "dog"])
    for pattern in ("*.parquet", "[ab].parquet", "[bc].parquet"):
        what = "labels of two kinds, integers like 0 and names like cat"
        with pytest.raises(UserError, match=what):
            open_source(str(tmp_path / pattern))


def test_a_file_without_labels(tmp_path, caplog):
    pq.write_table(pa.table({"image": PNGS[:2]}), tmp_path / "a.parquet")
    classes(tmp_path, "b.parquet", ["cat", "dog"], [1, -1])
    source = open_source(str(tmp_path / "*.parquet"))
    assert source.label_names == ("cat", "dog")
    assert read(source).labels.tolist() == [-1, -1, 1, -1]
    assert "no column label, so no labels: " in caplog.text


def test_columns_that_might_be_labels_are_named(tmp_path, caplog):
    assert open_source(put(tmp_path, {"image": PNGS, "kind": LABELS})).label_names is None
    assert "no column label, so no labels; not read: kind; --label-column" in caplog.text


@pytest.mark.parametrize(
    "columns", [{"picture": PNGS[:1]}, {"image": ["text"]}, {"image": [["1"]]}, {"image": [1]}]
)
def test_no_column_of_images(tmp_path, columns):
    name = next(iter(columns))
    with pytest.raises(
        UserError,
        match=rf"set\.parquet: no column of images .*with --image-column; .* are {name}: ",
    ):
        open_source(put(tmp_path, columns))


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "set.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"set\.parquet: damaged or not a Parquet file"):
        open_source(str(tmp_path / "set.parquet"))


def test_damage_within(tmp_path):
    path = put(tmp_path, {"image": PNGS, "label": LABELS}, compression="zstd")
    data = bytearray((tmp_path / "set.parquet").read_bytes())
    data[4:150] = bytes(146)
    (tmp_path / "set.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"set\.parquet: damaged or not a Parquet file"):
        read(open_source(path))


def test_no_rows(tmp_path):
    with pytest.raises(UserError, match="0 images; nothing to cluster"):
        open_source(put(tmp_path, {"image": pa.array([], pa.binary())}))

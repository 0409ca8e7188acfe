"""Arrow files and streams, and every type of column."""

import numpy as np
import pyarrow as pa
import pytest
import sets
from sets import read

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.sources import Rejection, open_source

IMAGES, LABELS = sets.digits(6)
PNGS = [sets.encoded(pixels) for pixels in IMAGES]
WRITERS = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}


def put(path: str, columns: dict, kind: str = "stream", rows: int = 4) -> str:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with WRITERS[kind](sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    storage.write_bytes(path, sink.getvalue().to_pybytes())
    return path


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path) -> str:
    return request.getfixturevalue("bucket") if request.param == "remote" else str(tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_any_piece(folder, kind):
    path = put(f"{folder}/set.arrow", {"image": PNGS, "label": LABELS}, kind)
    source = open_source(path)
    for start in range(6):
        for stop in range(start + 1, 7):
            (block,) = source.read(plan.Piece(0, start, stop))
            np.testing.assert_array_equal(block.pixels, IMAGES[start:stop].reshape(-1, 30))
            assert block.labels.tolist() == LABELS[start:stop].tolist()


ROWS = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [250, 251, 252]]]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (pa.list_(pa.list_(pa.uint8())), "uint8"),
        (pa.list_(pa.list_(pa.int64())), "uint8"),
        (pa.large_list(pa.list_(pa.uint16(), 3)), "uint8"),
        (pa.list_(pa.list_(pa.int32(), 3), 2), "uint8"),
        (pa.list_view(pa.list_view(pa.uint8())), "uint8"),
        (pa.list_(pa.list_(pa.float32())), "float32"),
        (pa.list_(pa.list_(pa.float16(), 3), 2), "float32"),
        (pa.list_(pa.list_(pa.float64())), "float32"),
    ],
    ids=str,
)
def test_lists_are_arrays(tmp_path, kind, dtype):
    source = open_source(put(f"{tmp_path}/set.arrow", {"image": pa.array(ROWS, kind)}))
    assert (source.image_shape, source.dtype) == ((2, 3), dtype)
    np.testing.assert_array_equal(read(source).pixels, np.array(ROWS, dtype).reshape(2, 6))


@pytest.mark.parametrize("kind", [pa.list_(pa.uint8()), pa.list_(pa.uint32()), pa.list_(pa.int8())])
def test_rows_of_bytes(tmp_path, kind):
    source = open_source(put(f"{tmp_path}/set.arrow", {"x": pa.array([[1, 0], [0, 1]], kind)}))
    assert (source.image_shape, source.dtype) == ((2,), "uint8")
    assert read(source).pixels.tolist() == [[1, 0], [0, 1]]


def test_integers_that_are_no_bytes(tmp_path):
    with pytest.raises(UserError, match=r"int64 values 0 … 300; images are uint8, 0 … 255, or fl"):
        open_source(put(f"{tmp_path}/set.arrow", {"image": [[0, 300]]}))


def test_lists_that_make_no_array(tmp_path):
    rows = [[[1, 2], [3, 4]], [[1, 2], [3]], [[1, None], [3, 4]], None, [[1, 2]]]
    values = pa.array(rows, pa.list_(pa.list_(pa.uint8())))
    *found, _ = open_source(put(f"{tmp_path}/set.arrow", {"image": values})).read(
        plan.Piece(0, 0, 4)
    )
    assert found == [
        Rejection("set.arrow/00001", "its rows are not of one length"),
        Rejection("set.arrow/00002", "a value is missing"),
        Rejection("set.arrow/00003", "no image in this row"),
    ]


def test_a_path_that_leads_nowhere(tmp_path):
    rows = [{"bytes": PNGS[0], "path": None}, {"bytes": None, "path": "gone.png"}]
    found = list(
        open_source(put(f"{tmp_path}/set.arrow", {"image": rows})).read(plan.Piece(0, 0, 2))
    )
    assert found[0].reason.startswith("cannot read gone.png: [Errno 2] No such file")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "edit", [lambda data: data[:30], lambda data: data[:-400], lambda _: b"no"]
)
def test_damage(tmp_path, kind, edit):
    path = put(f"{tmp_path}/set.arrow", {"image": PNGS, "label": LABELS}, kind, rows=1)
    (tmp_path / "set.arrow").write_bytes(edit((tmp_path / "set.arrow").read_bytes()))
    with pytest.raises(UserError, match=r"set\.arrow: damaged or not an Arrow file"):
        read(open_source(path))


def test_labels_of_a_column_that_is_asked_for(tmp_path, caplog):
    columns = {"img": PNGS, "fine_label": LABELS, "class": list("abcabc"), "note": list("xxyyxx")}
    path = put(f"{tmp_path}/set.arrow", columns)
    assert open_source(path).label_names == ("a", "b", "c")
    assert "labels are read from class, not from fine_label; --label-column chooses" in caplog.text
    assert open_source(path, label_column="note").label_names == ("x", "y")
    assert open_source(path, label_column="none").label_names is None
    with pytest.raises(UserError, match=r"--label-column kind: .* has no such column, only img, f"):
        open_source(path, label_column="kind")
    with pytest.raises(
        UserError, match=r"--image-column note: .* has no images there; they are en"
    ):
        open_source(path, image_column="note")

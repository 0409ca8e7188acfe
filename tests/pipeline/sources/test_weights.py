"""Weights: read from a column of every kind of file that has columns, and refused elsewhere."""

import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sets
import sharded
from sets import read

from kmeans_job import shard
from pipeline.errors import UserError
from pipeline.shards.manifest import WeightsEntry
from pipeline.sources import open_source
from pipeline.sources.weights import weight_of, weights_of

IMAGES, LABELS = sets.digits(6)
FLAT = IMAGES.reshape(6, 30)
WEIGHTS = [1.0, 0.1, 0.0, 3.0, 2.5, 7.0]


def write_parquet(folder, weights=WEIGHTS) -> str:
    table = pa.table({"pixels": FLAT.tolist(), "label": LABELS, "w": weights})
    pq.write_table(table, folder / "set.parquet", row_group_size=4)
    return str(folder / "set.parquet")


def write_arrow(folder, weights=WEIGHTS) -> str:
    table = pa.table({"pixels": FLAT.tolist(), "label": LABELS, "w": weights})
    with pa.ipc.new_file(folder / "set.arrow", table.schema) as file:
        file.write_table(table, 4)
    return str(folder / "set.arrow")


def write_csv(folder, weights=WEIGHTS) -> str:
    rows = zip(LABELS.tolist(), weights, FLAT.tolist(), strict=True)
    lines = [",".join(map(str, [label, weight, *pixels])) for label, weight, pixels in rows]
    header = ",".join(["label", "w", *(f"p{i}" for i in range(30))])
    (folder / "set.csv.gz").write_bytes(gzip.compress("\n".join([header, *lines]).encode()))
    return str(folder / "set.csv.gz")


def write_tfrecord(folder, weights=WEIGHTS) -> str:
    rows = zip(IMAGES, LABELS.tolist(), weights, strict=True)
    records = [{"image": sets.encoded(i), "label": label, "w": [w]} for i, label, w in rows]
    (folder / "set.tfrecord").write_bytes(sets.records(records))
    return str(folder / "set.tfrecord")


def write_npz(folder, weights=WEIGHTS) -> str:
    np.savez(folder / "set.npz", x=FLAT, y=LABELS, w=np.array(weights))
    return str(folder / "set.npz")


WRITERS = [write_parquet, write_arrow, write_csv, write_tfrecord, write_npz]


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_of_weights(tmp_path, write):
    source = open_source(write(tmp_path), weight_column="w")
    block = read(source)
    # tf.train.Example holds float32.
    wanted = np.float32(WEIGHTS).tolist() if write is write_tfrecord else WEIGHTS
    assert block.weights.tolist() == wanted
    assert block.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(block.pixels, FLAT)
    assert source.request.describe()["weight_column"] == "w"


@pytest.mark.parametrize("name", [None, "none"])
def test_without_a_name_there_are_none(tmp_path, name):
    source = open_source(write_npz(tmp_path), weight_column=name)
    assert read(source).weights is None
    assert "weight_column" not in source.request.describe()


def test_csv_without_a_header(tmp_path):
    (tmp_path / "set.csv").write_text("7,0.5,1,2,3,4\n2,3,5,6,7,8\n")
    block = read(open_source(str(tmp_path / "set.csv"), weight_column="1"))
    assert (block.weights.tolist(), block.labels.tolist()) == ([0.5, 3], [7, 2])
    assert block.pixels.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_arrays_of_splits(tmp_path):
    arrays = {"x_train": FLAT[:4], "w_train": WEIGHTS[:4], "x_test": FLAT[4:], "w_test": [5, 6]}
    np.savez(tmp_path / "set.npz", **arrays)
    source = open_source(str(tmp_path / "set.npz"), "all", weight_column="w")
    assert read(source).weights.tolist() == [*WEIGHTS[:4], 5, 6]


@pytest.mark.parametrize("options", [{}, {"image_size": (3, 3), "color": "gray"}], ids=str)
def test_they_reach_the_shards(tmp_path, options):
    path = write_tfrecord(tmp_path)
    manifest, block = sharded.shard(
        open_source(path, weight_column="w", **options), tmp_path / "shards", 2
    )
    assert manifest.weights == WeightsEntry("w", 7.0, are_whole=False)
    assert manifest.weight_column == "w"
    assert block.weights.tolist() == np.float32(WEIGHTS).tolist()


@pytest.mark.parametrize("transform", ["pca:2", "unit"])
def test_they_pass_through_transforms(tmp_path, transform):
    options = {"normalize": True} if transform == "unit" else {"transform": transform}
    out = tmp_path / "shards"
    manifest = shard(write_npz(tmp_path), out, weight_column="w", num_shards=2, **options)
    assert manifest.weight_column == "w"
    _, block = sets.read_set(out)
    assert block.weights.tolist() == WEIGHTS
    assert len(block.pixels) == 6


def test_a_manifest_without_weights_does_not_name_them(tmp_path):
    sharded.shard(open_source(write_npz(tmp_path)), tmp_path / "shards", 1)
    assert '"weight' not in (tmp_path / "shards" / "manifest.json").read_text()


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_that_is_not_there(tmp_path, write):
    with pytest.raises(UserError, match=r"--weight-column mass: .*set\.\w+.* (only|has) .*w"):
        read(open_source(write(tmp_path), weight_column="mass"))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("wrong", "shown"), [(-2.0, r"-2\.0"), (float("nan"), "nan")])
def test_what_is_no_weight_is_named(tmp_path, write, wrong, shown):
    place = "record" if write is write_tfrecord else "row"
    message = (
        rf"set\.[\w.]+( \(w.npy\))?.*: {place} 4: a weight of {shown}; weights are finite numbers "
        "from 0 on, of which 0 leaves an image out; correct it, or leave out --weight-column"
    )
    with pytest.raises(UserError, match=message):
        read(open_source(write(tmp_path, [*WEIGHTS[:4], wrong, 1.0]), weight_column="w"))


@pytest.mark.parametrize(
    ("write", "weights", "shown"),
    [
        (write_parquet, [1.0, None, 1, 1, 1, 1], "row 1: a weight of nothing;"),
        (write_parquet, list("abcdef"), "row 0: a weight of 'a';"),
        (write_csv, [1, "", 1, 1, 1, 1], "row 1: a weight of nothing;"),
        (write_csv, [1, "x", 1, 1, 1, 1], "row 1: a weight of 'x';"),
        (write_npz, list("abcdef"), r"an array of shape \(6,\) and dtype <U1; weights are one"),
        (write_npz, [1, 2], r"weights of shape \(2,\) for 6 images; give one for each image"),
    ],
)
def test_other_values_that_are_no_weights(tmp_path, write, weights, shown):
    with pytest.raises(UserError, match=shown):
        read(open_source(write(tmp_path, weights), weight_column="w"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0] * 6, "all weights are 0; give at least one image another one"),
        ([1e-200] * 6, "the largest weight is 1e-200; multiply all by a power of ten"),
        ([1e200] * 6, r"the largest weight is 1e\+200; multiply all by a power of ten"),
    ],
)
def test_sets_of_weights_that_are_refused(tmp_path, weights, message):
    source = open_source(write_npz(tmp_path, weights), weight_column="w")
    with pytest.raises(UserError, match=rf"--weight-column w: .*set.npz: {message}"):
        sharded.shard(source, tmp_path / "shards", 2)
    assert not (tmp_path / "shards" / "manifest.json").exists()


@pytest.mark.parametrize("kind", ["npy", "folder", "idx", "digits"])
def test_inputs_without_weights_refuse_them(tmp_path, kind):
    path = "digits"
    if kind == "npy":
        np.save(path := str(tmp_path / "set.npy"), FLAT)
    elif kind != "digits":
        path = sets.FORMATS[kind](tmp_path, IMAGES, LABELS)
    message = (
        rf"--weight-column w: {re.escape(path)} \(.*\) has no column of weights; those of npz, "
        "CSV, TFRecord, Parquet, Arrow are read: write one of these, or leave it out"
    )
    with pytest.raises(UserError, match=message):
        open_source(path, weight_column="w")


def test_objects_without_columns_refuse_them(tmp_path):
    message = (
        r"weight_column 'w': .* has no columns; give dictionaries, a datasets\.Dataset or a file"
    )
    for images in (FLAT, [("a", FLAT[0])]):
        with pytest.raises(UserError, match=message):
            shard(images, tmp_path / "shards", weight_column="w")


def test_datasets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = datasets.Dataset.from_dict({"x": FLAT.tolist(), "label": LABELS, "w": WEIGHTS})
    for number, images in enumerate((rows, rows.to_iterable_dataset())):
        out = tmp_path / str(number)
        assert shard(images, out, weight_column="w").weight_column == "w"
        assert sets.read_set(out)[1].weights.tolist() == WEIGHTS


def test_dictionaries_of_tensorflow(cpus, tmp_path):
    import tensorflow as tf

    columns = {"image": IMAGES, "label": LABELS, "w": WEIGHTS}
    rows = tf.data.Dataset.from_tensor_slices(columns)
    shard(rows.batch(4), tmp_path / "rows", weight_column="w")
    _, block = sets.read_set(tmp_path / "rows")
    assert block.weights.tolist() == np.float32(WEIGHTS).tolist()
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    with pytest.raises(UserError, match=r"weight_column 'w': .* has no columns; give dictionaries"):
        shard(pairs, tmp_path / "pairs", weight_column="w")
    with pytest.raises(UserError, match=r"--weight-column mass: .* only image, label, w"):
        shard(rows, tmp_path / "mass", weight_column="mass")


def test_numbers_that_are_weights():
    import decimal

    for value in (2, 2.0, np.float32(2), decimal.Decimal(2), np.int8(2)):
        assert weight_of(value, "x") == 2.0
    assert str(weight_of(-0.0, "x")) == "0.0"
    assert weight_of(True, "x") == 1.0
    assert weights_of(np.array([[1], [3]], np.uint8), "x").tolist() == [1.0, 3.0]

"""Framing of TFRecords, against itself, against damage and against TensorFlow."""

import io

import pytest
import sets
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.tfrecord import DamagedRecord, Example, frame, read_records, record_offsets


def file_of(*data: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(part for one in data for part in frame(one)))


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_records_come_back(data):
    assert [record.data for record in read_records(file_of(*data))] == data


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.data())
def test_reading_from_an_offset(data, draw):
    file = file_of(*data)
    offsets = list(record_offsets(file))
    index = draw.draw(st.integers(0, len(data) - 1))
    file.seek(offsets[index])
    assert [record.data for record in read_records(file)] == data[index:]
    assert list(record_offsets(file, offsets[index])) == offsets[index:]


@given(st.integers(1, 32))
def test_a_record_cut_short(missing):
    cut = file_of(b"0123456789abcdef").getvalue()[:-missing]
    for read in (read_records, record_offsets):
        if cut:
            with pytest.raises(DamagedRecord, match="cut short"):
                list(read(io.BytesIO(cut)))


@given(st.integers(0, 31), st.integers(0, 7))
def test_a_flipped_bit(position, bit):
    damaged = bytearray(file_of(b"0123456789abcdef").getvalue())
    damaged[position] ^= 1 << bit
    with pytest.raises(DamagedRecord, match="wrong checksum"):
        list(read_records(io.BytesIO(damaged)))


def test_example_is_tensorflows(tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    rows = [{"text": b"abc", "number": 7, "floats": [1.5, -2.0]}, {"text": b""}]
    (path := tmp_path / "x.tfrecord").write_bytes(sets.records(rows))
    theirs = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    assert theirs[0].features.feature["text"].bytes_list.value == [b"abc"]
    assert theirs[0].features.feature["floats"].float_list.value == [1.5, -2.0]
    ours = Example.FromString(theirs[0].SerializeToString())
    assert ours.features.feature["number"].int64_list.value == [7]
    assert len(theirs) == 2

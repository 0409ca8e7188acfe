"""Chunks of pixels read from files in order, pass after pass, and where they lie there."""

import io

import numpy as np
import pytest
from kmeans_graphs import bytes_of

from job.images.reader import Reader, Run, find_pixels, records
from pipeline.errors import UserError
from pipeline.shards.tfrecord import frame

D = 6
CHUNKS = [slice(0, 40), slice(40, 80), slice(80, 100)]


@pytest.fixture(params=["uint8", "float32"])
def pixels(request) -> np.ndarray:
    return bytes_of(np.random.default_rng(0), 100, D).astype(request.param)


@pytest.fixture
def reader(pixels, tmp_path):
    """A reader of `pixels` from three runs in two files, where other bytes lie between them."""
    paths = [str(tmp_path / name) for name in ("one", "two")]
    first, second, third = (pixels[part].tobytes() for part in np.split(np.arange(100), [33, 71]))
    (tmp_path / "one").write_bytes(b"head" + first + b"between" + second)
    (tmp_path / "two").write_bytes(third + b"tail")
    runs = [
        Run(0, 33, paths[0], 4),
        Run(33, 71, paths[0], 4 + len(first) + 7),
        Run(71, 100, paths[1], 0),
    ]
    reader = Reader(runs, CHUNKS, D, pixels.dtype)
    yield reader
    reader.close()


def test_chunks_come_in_order_pass_after_pass(reader, pixels):
    for _ in range(3):
        for chunk in CHUNKS:
            found = reader.next()
            assert found.dtype == pixels.dtype
            np.testing.assert_array_equal(found[:, :D], pixels[chunk])
            assert not found[:, D:].numpy().any()


def test_rows_are_read_wherever_they_lie(reader, pixels):
    for rows in (
        slice(0, 100),
        slice(32, 34),
        slice(33, 71),
        slice(70, 72),
        slice(0, 0),
        slice(100, 100),
    ):
        np.testing.assert_array_equal(reader.read(rows), pixels[rows])


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_a_pass_that_was_left_begins_anew(reader, pixels, taken):
    for _ in range(taken):
        reader.next()
    reader.rewind()
    np.testing.assert_array_equal(reader.next()[:, :D], pixels[CHUNKS[0]])


def test_a_file_that_is_gone_is_named_in_this_pass_and_the_next(reader, tmp_path):
    (tmp_path / "two").unlink()
    for _ in range(2):
        with pytest.raises(UserError, match="two: cannot read"):
            [reader.next() for _ in CHUNKS]
        reader.rewind()


def test_a_reader_may_be_closed_at_any_time(reader):
    reader.close()
    reader.close()


def test_records_are_found_by_their_offset(tmp_path):
    contents = [b"one", b"", b"three" * 100]
    data = b"".join(part for content in contents for part in frame(content))
    (path := tmp_path / "shard").write_bytes(data)
    found = list(records(str(path)))
    assert [content for _, content in found] == contents
    assert [data[offset : offset + len(content)] for offset, content in found] == contents
    (tmp_path / "empty").write_bytes(b"")
    assert list(records(str(tmp_path / "empty"))) == []


def test_pixels_are_found_behind_bytes_that_look_alike():
    pixels = np.arange(100, dtype=np.uint8).reshape(1, 100)
    data = io.BytesIO()
    data.write(pixels.tobytes()[:80])  # begins as the pixels do
    data.write(pixels.tobytes())
    assert find_pixels(pixels, 1000, data.getvalue(), "shard") == 1080
    assert find_pixels(pixels, 0, pixels.tobytes(), "shard") == 0


@pytest.mark.parametrize("cut", [0, 63, 99])
def test_pixels_that_are_not_there(cut):
    pixels = np.arange(100, dtype=np.uint8).reshape(1, 100)
    with pytest.raises(UserError, match=r"^shard: altered while it was read; shard the set again"):
        find_pixels(pixels, 0, b"x" + pixels.tobytes()[:cut], "shard")

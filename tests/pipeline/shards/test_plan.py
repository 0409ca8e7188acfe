"""Plans are pure integers: they cover a set exactly, whatever its size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards import plan


@given(st.integers(1, 5000), st.data())
def test_pieces_cover_every_image_once(num_images, data):
    num_shards = data.draw(st.integers(1, num_images))
    pieces = plan.pieces(num_images, num_shards)
    assert [piece.number for piece in pieces] == list(range(num_shards))
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(
        range(num_images)
    )
    sizes = [piece.stop - piece.start for piece in pieces]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 300), st.integers(0, 300))
def test_overlaps_are_the_images_of_a_piece(sizes, start, stop):
    images = [(part, i) for part, size in enumerate(sizes) for i in range(size)]
    found = [
        (part, i)
        for part, a, b in plan.overlaps(plan.Piece(0, start, stop), sizes)
        for i in range(a, b)
    ]
    assert found == images[start:stop]


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 100))
def test_spans_follow_each_other(start, length, rows):
    spans = list(plan.spans(start, start + length, rows))
    assert [i for a, b in spans for i in range(a, b)] == list(range(start, start + length))
    assert all(b - a <= rows for a, b in spans)


@pytest.mark.parametrize(
    ("num_images", "image_bytes", "expected"),
    [(1, 784, 1), (60_000, 784, 1), (85_600, 784, 1), (171_200, 784, 2), (1000, 1 << 20, 16)],
)
def test_default_shards_are_of_about_64_mib(num_images, image_bytes, expected):
    assert plan.default_num_shards(num_images, image_bytes) == expected


@pytest.mark.parametrize(("image_bytes", "expected"), [(784, 1337), (1 << 20, 1), (5 << 20, 1)])
def test_a_block_is_of_about_1_mib(image_bytes, expected):
    assert plan.images_per_block(image_bytes) == expected


@pytest.mark.parametrize(
    ("num_shards", "text"), [(0, "at least one shard"), (-1, "at least"), (8, "more than the 7")]
)
def test_a_number_of_shards_that_cannot_be(num_shards, text):
    with pytest.raises(UserError, match=f"--num-shards {num_shards}: {text}"):
        plan.pieces(7, num_shards)


def test_hashed_shard_never_changes():
    """Sets that were sharded before must shard alike: these numbers are part of the format."""
    names = [b"a.png", b"b.png", "ü.png".encode(), b"\xff.png"]
    assert [plan.hashed_shard(name, 7) for name in names] == [4, 3, 5, 3]


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=4), st.integers(-1, 3)), max_size=50),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_a_listing_has_the_images_of_its_shard(references, num_shards, chunk_names):
    references = [(name.replace(b"\0", b"/"), label) for name, label in references]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CHUNK_NAMES", chunk_names)
        chunks = list(plan.grouped(references, num_shards))
    for number in range(num_shards):
        listing = plan.Listing(number, [chunk for shard, chunk in chunks if shard == number])
        expected = [ref for ref in references if plan.hashed_shard(ref[0], num_shards) == number]
        assert list(listing.references()) == sorted(expected, key=lambda ref: (ref[1], ref[0]))


def test_hashed_shards_are_even():
    counts = [0] * 4
    for i in range(4000):
        counts[plan.hashed_shard(f"{i:05d}.png".encode(), 4)] += 1
    assert min(counts) > 900

"""Rows of every shape are assembled to blocks of one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Rejection, Request
from pipeline.sources.decode import Unreadable
from pipeline.sources.rows import Row, assemble, first_row, read_row

REQUEST = Request(("set",))


def row(number: int, shape: tuple[int, ...] = (2, 3), label: int = 0) -> Row:
    return Row(f"{number:03d}", label, np.full(shape, number % 256, np.uint8))


def blocks(rows, labelled: bool = True) -> list[Block | Rejection]:
    return list(assemble(rows, (2, 3), "uint8", labelled, REQUEST))


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 7))
def test_every_image_is_in_a_block_or_rejected(good, rows_of_block):
    rows = [row(i) if ok else Rejection(f"{i:03d}", "bad") for i, ok in enumerate(good)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "BLOCK_BYTES", 6 * rows_of_block)
        found = blocks(rows)
    made = [item for item in found if isinstance(item, Block)]
    assert [i for b in made for i in b.ids] == [r.id for r in rows if isinstance(r, Row)]
    assert [r for r in found if isinstance(r, Rejection)] == [r for r in rows if len(r) == 2]
    assert all(len(b.ids) == rows_of_block for b in made[:-1])
    for block in made:
        assert block.pixels.shape == (len(block.ids), 6)
        assert block.pixels[:, 0].tolist() == [int(image_id) for image_id in block.ids]


def test_blocks_do_not_share_memory(monkeypatch):
    monkeypatch.setattr(plan, "BLOCK_BYTES", 6)
    first, second = blocks([row(1), row(2)])
    assert not np.shares_memory(first.pixels, second.pixels)


def test_unlabelled_blocks_have_no_labels():
    (block,) = blocks([row(1, label=-1)], labelled=False)
    assert block.labels is None


def test_shapes_are_counted_the_most_frequent_first():
    rows = [row(1), row(2, (4, 4)), row(3, (4, 4)), row(4, (2, 3, 3))]
    with pytest.raises(UserError) as caught:
        blocks(rows)
    assert str(caught.value) == (
        "--input set: images of different shapes: 2 of 4 × 4, 1 of 2 × 3, 1 of 2 × 3 × 3; "
        "add --image-size HxW and --grayscale"
    )


def test_none_of_the_expected_shape():
    """Every image of a piece can differ from the one that was looked at first."""
    with pytest.raises(UserError, match=r"of different shapes: 2 of 4 × 4, 0 of 2 × 3; add --im"):
        blocks([row(1, (4, 4)), row(2, (4, 4))])


def test_first_row_skips_what_cannot_be_read():
    assert first_row([Rejection("a", "bad"), row(1), row(2)], REQUEST).id == "001"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "--input set: 0 images; nothing to cluster"),
        ([Rejection("a", "empty file")], "no image can be read; the first, a: empty file"),
    ],
)
def test_no_first_row(rows, message):
    with pytest.raises(UserError, match=message):
        first_row(rows, REQUEST)


def test_a_row_or_why_not():
    def fail():
        raise Unreadable("empty file")

    assert read_row("a", 3, lambda: "pixels") == Row("a", 3, "pixels")
    assert read_row("a", 3, fail) == Rejection("a", "empty file")

"""Rows of every shape are assembled to blocks of one."""

import types

import numpy as np
import pytest
import sets
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.sources import Rejection, Request, rows
from pipeline.sources.labels import Unnamed
from pipeline.sources.pictures import threads
from pipeline.sources.pictures.decode import Unreadable
from pipeline.sources.rows import Item, Row, assemble, decoded, settle

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
        "add --image-size 4x4 and --color gray"
    )


def test_none_of_the_expected_shape():
    """Every image of a piece can differ from the one that was looked at first."""
    with pytest.raises(UserError, match=r"of different shapes: 2 of 4 × 4, 0 of 2 × 3; add --im"):
        blocks([row(1, (4, 4)), row(2, (4, 4))])


def item(number: int, shape: tuple[int, ...] = (2, 3)) -> Item:
    return Item(f"{number:03d}", 0, np.full(shape, number, np.uint8))


BAD = Item("a", 0, Unreadable("empty file"))


@pytest.mark.parametrize(
    ("items", "shape", "color"),
    [
        ([BAD, item(1), item(2)], (2, 3), "auto"),
        ([item(1), item(2, (4, 5, 3))], (2, 3, 3), "rgb"),
        ([item(1, (4, 5, 3)), item(2)], (4, 5, 3), "rgb"),
        ([item(1), BAD, item(2), item(3, (2, 3, 4))], (2, 3, 3), "rgb"),
        ([item(1, (6,))], (6,), "auto"),
    ],
)
def test_a_set_is_grey_only_if_all_images_are(items, shape, color):
    assert settle(items, REQUEST) == (shape, "uint8", color)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "--input set: 0 images; nothing to cluster"),
        ([BAD], "no image can be read; the first, a: empty file"),
    ],
)
def test_no_image_can_be_read(items, message):
    with pytest.raises(UserError, match=message):
        settle(items, REQUEST)


def test_a_damaged_image_with_colour_settles_nothing():
    grey, colour = (sets.encoded(np.zeros(shape, np.uint8)) for shape in ((2, 3), (2, 3, 3)))
    assert settle([Item("a", 0, grey), Item("b", 0, colour[:60])], REQUEST).color == "auto"
    assert settle([Item("a", 0, grey), Item("b", 0, colour)], REQUEST).color == "rgb"


def test_an_image_of_one_colour_is_decoded_as_asked():
    request = Request(("set",), color="rgb")
    assert decoded(item(7), request).pixels.tolist() == np.full((2, 3, 3), 7).tolist()
    assert decoded(BAD, request) == Rejection("a", "empty file")


@pytest.mark.parametrize(
    ("shape", "reason"), [((2,), "2 values instead of 6"), ((1, 6), "1 × 6 values instead of 6")]
)
def test_numbers_of_another_shape(shape, reason):
    found = decoded(Item("a", 0, np.zeros(shape, np.float32)), REQUEST, (6,))
    assert found == Rejection("a", reason)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_any_number_of_threads_makes_the_same_blocks(kind, monkeypatch):
    rng = np.random.default_rng(0)
    request = Request(("set",), image_size=(4, 4))
    items = [
        Item(f"{number:03d}", number, sets.encoded(rng.integers(0, 256, (9, 7, 3), np.uint8), kind))
        for number in range(200)
    ]
    for bad in (0, 17, 18, 150, 199):
        items[bad] = items[bad]._replace(content=b"no image")
    items[40] = items[40]._replace(content=Unreadable("cannot read: refused"))
    mixed = [*items[:30], Unnamed("cat"), *items[30:]]
    source = types.SimpleNamespace(
        request=request, image_shape=(4, 4, 3), dtype="uint8", color="rgb"
    )
    monkeypatch.setattr(plan, "BLOCK_BYTES", 48 * 20)
    made = {}
    for number in (1, 2, 7):
        monkeypatch.setattr(threads, "num_threads", lambda number=number: number)
        made[number] = [
            (found.ids, found.labels.tolist(), found.pixels.tobytes())
            if isinstance(found, Block)
            else found
            for found in rows.blocks(mixed, source, labelled=True)
        ]
    assert made[1] == made[2] == made[7]
    assert [found.id for found in made[7] if isinstance(found, Rejection)] == [
        *("000", "017", "018", "040", "150", "199")
    ]

"""rejected.jsonl: its parts, their order, and how much is too much."""

import json

import pytest
import sets
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards.rejected import (
    REJECTED,
    Rejection,
    check_fraction,
    merge_parts,
    part_file,
    write_part,
)


def test_parts_are_put_together_in_order(tmp_path):
    for number, ids in enumerate(["ab", "c", "d"]):
        rows = [Rejection(image_id, "empty file") for image_id in ids]
        write_part(str(tmp_path / part_file(number, 3)), rows)
    merge_parts(str(tmp_path), [part_file(number, 3) for number in range(3)])
    assert list(sets.rejections(tmp_path)) == ["a", "b", "c", "d"]


@given(st.text(), st.text())
def test_a_line_holds_any_name(tmp_path_factory, image_id, reason):
    image_id, reason = (text.encode("utf-8", "replace").decode() for text in (image_id, reason))
    folder = tmp_path_factory.mktemp("part")
    write_part(str(folder / "part"), [Rejection(image_id, reason)])
    data = (folder / "part").read_bytes()
    assert data.count(b"\n") == 1
    assert json.loads(data) == {"id": image_id, "reason": reason}


@pytest.mark.parametrize(
    ("rejected", "images", "allowed"), [(1, 99, 0.01), (0, 5, 0.0), (9, 1, 0.9), (1, 1, 0.5)]
)
def test_few_enough(tmp_path, rejected, images, allowed):
    assert check_fraction(rejected, images, allowed, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("rejected", "images", "allowed", "limit"),
    [
        (2, 99, 0.01, ", more than the 1 % allowed"),
        (1, 1_000_000, 0.0, ", more than the 0 % allowed"),
        (1, 0, 1.0, ""),
    ],
)
def test_too_many(tmp_path, rejected, images, allowed, limit):
    write_part(str(tmp_path / REJECTED), [Rejection("a", "empty file")])
    with pytest.raises(UserError) as caught:
        check_fraction(rejected, images, allowed, str(tmp_path))
    remedy = ", or allow more by --max-rejected" if limit else ""
    assert str(caught.value) == (
        f"{rejected} of {rejected + images:,} images cannot be read{limit}; the first, a: empty "
        f"file; mend what {tmp_path / REJECTED} lists{remedy}"
    )

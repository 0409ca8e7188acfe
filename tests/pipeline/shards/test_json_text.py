"""JSON that holds any path, so that two paths never look the same."""

import json
import os

from pipeline.shards import json_text


def test_bytes_and_their_escapes_stay_different():
    names = [os.fsdecode(b"a\xff"), "a\\xff", "a\\udcff", "a\n", "aÿ"]
    written = json_text.encode(names)
    assert json.loads(written.decode()) == names
    assert len({json_text.encode(name) for name in names}) == len(names)
    assert b"\xc3\xbf" in written  # what UTF-8 holds stays readable

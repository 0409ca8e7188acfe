"""JSON as all files here hold it: UTF-8, with what UTF-8 cannot hold escaped."""

import json
from typing import Any


def encode(values: Any, indent: int | None = 1) -> bytes:
    r"""Returns `values` as the bytes of JSON, with a newline at the end.

    A path may hold bytes that are not UTF-8, which Python keeps as lone surrogates. UTF-8 has no
    place for those, but JSON has: 0xff becomes the escape `\udcff`, which json.loads reads back as
    it was. The text `\udcff` becomes `\\udcff`, so the two stay different.
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")

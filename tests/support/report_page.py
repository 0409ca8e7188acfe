"""A report as its tests read it: without a browser, as tags and text."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from job import report


class Page(HTMLParser):
    """A parsed report: every tag with its attributes, and the text a person reads.

    Attributes:
      tags: (name, attributes).
      text: of the page, without styles and scripts.
      items: text of each list item.
      rows: text of the cells of each table row.
    """

    def __init__(self, source: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.items: list[str] = []
        self.rows: list[list[str]] = []
        self.code = ""
        self._text: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.text = spaced("".join(self._text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "li":
            self.items.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if {"script", "style"} & set(self._open):
            return
        self._text.append(data)
        if "li" in self._open:
            self.items[-1] = spaced(self.items[-1] + data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] = spaced(self.rows[-1][-1] + data)
        if "pre" in self._open:
            self.code += data

    def all(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        """Attributes of the tags of a name and, if given, a class."""
        return [
            attributes
            for name, attributes in self.tags
            if name == tag and (not css or css in (attributes.get("class") or "").split())
        ]


def spaced(text: str) -> str:
    """Text with single spaces, as a browser shows it."""
    return re.sub(r"\s+", " ", text.replace("\u00a0", " "))


def page_of(folder) -> Page:
    return Page(report.build_report(str(folder)))


def decoded(uri: str) -> np.ndarray:
    """The pixels of a data URI."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))

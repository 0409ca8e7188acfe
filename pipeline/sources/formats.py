"""The registry of what `--input` reads: file formats, image formats, and sets known by name.

Entries name their functions as text, "module:function", so that listing the formats imports no
library that decodes them; the module is loaded when one of its files is opened.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

from pipeline.errors import UserError

# Image formats by the name that messages use, with the endings of their files. In capitals the
# name is also Pillow's.
IMAGE_FORMATS = {
    "PNG": ("png",),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "WebP": ("webp",),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "JPEG2000": ("jp2", "j2k", "jpx"),
    "AVIF": ("avif",),
    "HEIF": ("heic", "heif"),
}
IMAGE_ENDING = rf"(?i:\.({'|'.join(sum(IMAGE_FORMATS.values(), ()))}))"


@dataclasses.dataclass(frozen=True)
class Format:
    """A family of files that one module reads.

    Attributes:
      name: of the format, in messages.
      summary: of what is given as `--input`, in the help text.
      ending: regular expression for the end of such a file's name, in small letters.
      opens: function (Request, paths) → Source.
      takes_folders: whether the module is given a folder as a whole, not the files in it.
      has_columns: whether images and labels have names, which may be chosen.
      has_weights: whether one of the columns may hold weights.
      has_splits: whether one file holds several splits, or the module finds the splits.
    """

    name: str
    summary: str
    ending: str
    opens: str
    takes_folders: bool = False
    has_columns: bool = False
    has_splits: bool = False
    has_weights: bool = False

    def matches(self, path: str) -> bool:
        """Whether the end of a file's name says that it is of this format."""
        return re.search(f"(?i:{self.ending})$", path) is not None


IMAGES = Format(
    "images",
    "folders of images with one sub-folder per label (or none)",
    IMAGE_ENDING,
    "pipeline.sources.folders:open_folders",
    takes_folders=True,
    has_splits=True,
)
FORMATS = (
    Format(
        "npz",
        ".npz",
        r"\.npz",
        "pipeline.sources.arrays.npz:open_npz",
        has_columns=True,
        has_splits=True,
        has_weights=True,
    ),
    Format("npy", ".npy", r"\.npy", "pipeline.sources.arrays.npy:open_npy"),
    Format(
        "idx",
        "idx files",
        r"[-.]idx\d(-[a-z]+)?(\.gz)?",
        "pipeline.sources.arrays.idx:open_idx",
        takes_folders=True,
        has_splits=True,
    ),
    Format(
        "CSV",
        ".csv",
        r"\.csv(\.gz)?",
        "pipeline.sources.arrays.csv:open_csv",
        has_columns=True,
        has_weights=True,
    ),
    Format(
        "TFRecord",
        "TFRecords",
        r"(\.(tfrecords?|tfrec|record)(\.(gz|zlib))?(-\d+-of-\d+)?(\.(gz|zlib))?|-\d{5}-of-\d{5})",
        "pipeline.sources.records.source:open_tfrecords",
        has_columns=True,
        has_weights=True,
    ),
    Format(
        "Parquet",
        "Parquet",
        r"\.(parquet|pq)",
        "pipeline.sources.tables.source:open_tables",
        has_columns=True,
        has_weights=True,
    ),
    Format(
        "Arrow",
        "Arrow",
        r"\.(arrow|feather)",
        "pipeline.sources.tables.source:open_tables",
        has_columns=True,
        has_weights=True,
    ),
    Format(
        "archive",
        ".tar (WebDataset) and .zip of images",
        r"\.(tar|tar\.gz|tgz|zip)",
        "pipeline.sources.archives.source:open_archives",
        has_columns=True,
        has_splits=True,
    ),
    IMAGES,
)

# Sets known by name: function () → builtin.NamedSet.
NAMED_SETS = {
    "digits": "pipeline.sources.builtin:digits",
    "mnist": "pipeline.sources.builtin:mnist",
    "fashion-mnist": "pipeline.sources.builtin:fashion_mnist",
}


def loaded(where: str) -> Callable[..., Any]:
    """Imports and returns the function that a registry names as "module:function"."""
    module, _, function = where.partition(":")
    return getattr(importlib.import_module(module), function)


def named_like(path: str) -> Format | None:
    """Finds the format of a file by its name; None if no format has such names."""
    return next((each for each in FORMATS if each.matches(path)), None)


def format_of(path: str) -> Format:
    """Finds the format of a file by its name.

    Raises:
      UserError: the name has none of the known endings.
    """
    if found := named_like(path):
        return found
    names = ", ".join(each.name for each in FORMATS)
    raise UserError(f"--input {path}: not a format this version reads ({names})")


def input_help() -> str:
    """Describes the values of `--input`, for the help text."""
    kinds = ", ".join(each.summary for each in FORMATS)
    return f"{', '.join(NAMED_SETS)}, or paths or globs of one kind: {kinds}; or a folder of them"


def image_formats_text() -> str:
    """Lists the image formats, for messages: PNG, JPEG, BMP, GIF or WebP."""
    *first, last = IMAGE_FORMATS
    return f"{', '.join(first)} or {last}"

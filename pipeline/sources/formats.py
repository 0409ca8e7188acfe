"""The registry of what `--input` reads: file formats, image formats, and sets known by name.

Entries name their functions as text, "module:function", so that listing the formats imports no
library that decodes them; the module is loaded when one of its files is opened.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

from pipeline import storage
from pipeline.errors import UserError

# Image formats by the name that messages use, with the endings of their files. In capitals the
# name is also Pillow's.
IMAGE_FORMATS = {
    "PNG": ("png",),
    "JPEG": ("jpg", "jpeg"),
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "WebP": ("webp",),
}
IMAGE_ENDING = rf"(?i:\.({'|'.join(sum(IMAGE_FORMATS.values(), ()))}))"


@dataclasses.dataclass(frozen=True)
class Format:
    """A family of files that one module reads.

    Attributes:
      name: of the format, in messages.
      summary: of what is given as `--input`, in the help text.
      ending: regular expression for the end of such a file's name.
      opens: function (Request, paths) → Source.
      claims_folder: function (path) → whether a folder as a whole is of this format; "" where no
        folder is.
    """

    name: str
    summary: str
    ending: str
    opens: str
    claims_folder: str = ""

    def matches(self, path: str) -> bool:
        """Whether the end of a file's name says that it is of this format."""
        return re.search(f"{self.ending}$", path) is not None


# In this order a folder is offered to the formats; the last one takes any.
FORMATS = (
    Format("npz", ".npz", r"\.npz", "pipeline.sources.arrays:open_npz"),
    Format("npy", ".npy", r"\.npy", "pipeline.sources.arrays:open_npy"),
    Format(
        "idx",
        "idx files",
        r"(images|labels)[-.]idx\d-ubyte(\.gz)?",
        "pipeline.sources.idx:open_idx",
        "pipeline.sources.idx:images_in",
    ),
    Format(
        "TFRecord",
        "TFRecords",
        r"\.tfrecords?(\.gz)?(-\d+-of-\d+)?(\.gz)?",
        "pipeline.sources.tfrecords:open_tfrecords",
    ),
    Format("Parquet", "Parquet", r"\.(parquet|pq)", "pipeline.sources.parquet:open_parquet"),
    Format(
        "images",
        "folders of images with one sub-folder per label (or none)",
        IMAGE_ENDING,
        "pipeline.sources.folders:open_folders",
        "pipeline.storage:is_folder",
    ),
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


def format_of(path: str) -> Format:
    """Finds the format of a file by its name, or of a folder by what it holds.

    Raises:
      UserError: the file's name has none of the known endings.
    """
    if storage.is_folder(path):
        claiming = (each for each in FORMATS if each.claims_folder)
        return next(each for each in claiming if loaded(each.claims_folder)(path))
    for each in FORMATS:
        if each.matches(path):
            return each
    names = ", ".join(each.name for each in FORMATS)
    raise UserError(f"--input {path}: not a format this version reads ({names})")


def input_help() -> str:
    """Describes the values of `--input`, for the help text."""
    kinds = ", ".join(each.summary for each in FORMATS)
    return f"{', '.join(NAMED_SETS)}, or paths or globs of one kind: {kinds}"


def image_formats_text() -> str:
    """Lists the image formats, for messages: PNG, JPEG, BMP, GIF or WebP."""
    *first, last = IMAGE_FORMATS
    return f"{', '.join(first)} or {last}"

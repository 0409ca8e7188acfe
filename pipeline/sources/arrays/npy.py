"""Sets in .npy files: an array of images, and NAME_labels.npy beside it."""

import os

from pipeline import storage
from pipeline.sources.arrays.array import Array
from pipeline.sources.arrays.source import id_folders, make_part, make_source
from pipeline.sources.pictures.converted import converted
from pipeline.sources.protocol import Planned, Request


def open_npy(request: Request, paths: list[str]) -> Planned:
    """Opens .npy files of images, with the labels in NAME_labels.npy beside them if it is there."""
    paths = [path for path in paths if len(paths) == 1 or not path.lower().endswith("_labels.npy")]
    parts = []
    for path, folder in zip(paths, id_folders(paths), strict=True):
        labels = f"{os.path.splitext(path)[0]}_labels.npy"
        array = Array(labels) if storage.is_file(labels) else None
        parts.append(make_part(f"{folder}train", Array(path), array))
    return converted(make_source(request, parts))

"""Objects of Hugging Face's `datasets`: what `save_to_disk` leaves of them is read.

So selected, shuffled and mapped rows are what their owner sees, and images are not decoded twice.
"""

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError
from pipeline.sources.protocol import Planned, Request
from pipeline.sources.tables.source import open_tables

SPLITS = "splits"  # folder of the files that are read


@contextlib.contextmanager
def opened(images: Any, request: Request) -> Iterator[Planned]:
    """Opens a Dataset, or the splits of a DatasetDict that the request wants.

    Raises:
      UserError: there is no such split, or no column of images.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, SPLITS))
        paths = []
        for name, rows in _splits(images, request).items():
            # One file, so that ids are the rows' numbers.
            with _without_bars():
                rows.save_to_disk(os.path.join(folder, name), num_shards=1)
            (path,) = glob.glob(os.path.join(glob.escape(folder), glob.escape(name), "*.arrow"))
            # Ids begin with the name of the file.
            os.rename(path, target := os.path.join(folder, SPLITS, name))
            paths.append(target)
        yield open_tables(request, paths)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps `datasets` from showing progress of its own."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _splits(images: Any, request: Request) -> dict[str, Any]:
    if not isinstance(images, dict):
        request.refuse_test_split()
        return {"train": images}
    if request.split == "all":
        return dict(images)
    if request.split not in images:
        raise UserError(f"split {request.split!r}: {request} has only {', '.join(images)}")
    return {request.split: images[request.split]}

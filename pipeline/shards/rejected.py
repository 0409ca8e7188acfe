"""rejected.jsonl: the images that could not be read, and why."""

import json
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import json_text

REJECTED = "rejected.jsonl"
DEFAULT_FRACTION = 0.01


class Rejection(NamedTuple):
    """An image that cannot be read, and why; the job goes on without it."""

    id: str
    reason: str


def part_file(index: int, num_shards: int) -> str:
    """Returns the name of the file with one shard's rejections, which are merged at the end."""
    return f"rejected-{index:05d}-of-{num_shards:05d}.jsonl"


def write_part(path: str, rejections: Iterable[Rejection]) -> None:
    """Publishes rejections, a line of JSON each."""
    storage.write_bytes(
        path, b"".join(json_text.encode(row._asdict(), indent=None) for row in rejections)
    )


def merge_parts(folder: str, names: Iterable[str]) -> None:
    """Publishes the parts `names` of `folder`, in this order, as its rejected.jsonl."""
    with storage.publish(storage.join(folder, REJECTED)) as file:
        for name in names:
            with storage.open_read(storage.join(folder, name)) as part:
                shutil.copyfileobj(part, file)


def check_fraction(num_rejected: int, num_images: int, allowed: float, folder: str) -> None:
    """Raises UserError if more than `allowed` of all images were rejected, or all of them.

    Args:
      num_images: the number of images that were read.
      folder: the folder that rejected.jsonl is in.
    """
    total = num_rejected + num_images
    if num_images and num_rejected <= allowed * total:
        return
    with storage.open_read(path := storage.join(folder, REJECTED)) as file:
        first = Rejection(**json.loads(file.readline()))
    limit = f", more than the {100 * allowed:g} % allowed" if num_images else ""
    remedy = ", or allow more by --max-rejected" if num_images else ""
    raise UserError(
        f"{num_rejected:,} of {total:,} images cannot be read{limit}; the first, {first.id}: "
        f"{first.reason}; mend what {path} lists{remedy}"
    )

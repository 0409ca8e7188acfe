"""How much memory a worker may take, and whether its images fit."""

import contextlib
import os

from job.config import FitConfig
from job.distribute.replicas import Replicas
from pipeline.shards.manifest import Manifest

# Bytes of an image besides its pixels: norm, digest, cluster, gap and the widest screen.
STATE_BYTES = 8 + 8 + 8 + 4 + 4 * 128
RESIDENT_SHARE = 0.75  # of what is available; the rest is for blocks, graphs and other processes
# A state may take LITTLE_BYTES, or STATE_SHARE of the bytes of images held in memory if that is
# more, but never more than SPARE_SHARE of what is available.
LITTLE_BYTES, STATE_SHARE, SPARE_SHARE = 512 << 20, 1 / 8, 0.5
CGROUPS = (
    # (limit, usage, statistics, the name in these of the cache that the kernel can take back)
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def fits(config: FitConfig, manifest: Manifest, replicas: Replicas) -> bool:
    """Tells whether this worker shall keep its images in memory."""
    if config.memory != "auto":
        return config.memory == "resident"
    own = manifest.shards[replicas.worker :: replicas.num_workers]
    pixel_bytes = 1 if manifest.dtype == "uint8" else 4
    image_bytes = manifest.num_features * pixel_bytes + STATE_BYTES
    needed = sum(shard.num_images for shard in own) * image_bytes
    return needed <= RESIDENT_SHARE * available_bytes()


def spare_row_bytes(num_images: int, held_bytes: int) -> int:
    """Returns how many bytes a state may take for each of a worker's images.

    Args:
      held_bytes: bytes of the `num_images` images' pixels that are in memory; 0: they are streamed.
    """
    wanted = max(STATE_SHARE * held_bytes, LITTLE_BYTES)
    return int(min(wanted, SPARE_SHARE * available_bytes()) / max(1, num_images))


def available_bytes(root: str = "/") -> int:
    """Returns how much memory the machine and the process's cgroup leave.

    A limit that cannot be read is taken for none.

    Args:
      root: where /proc and /sys are looked for.
    """
    found = [_meminfo(os.path.join(root, "proc/meminfo"))]
    found += [_cgroup(os.path.join(root, "sys/fs/cgroup"), *names) for names in CGROUPS]
    return max(0, min([value for value in found if value is not None], default=1 << 62))


def _meminfo(path: str) -> int | None:
    kibibytes = _table(path).get("MemAvailable:")
    return None if kibibytes is None else kibibytes * 1024


def _cgroup(folder: str, limit: str, used: str, statistics: str, cache: str) -> int | None:
    most, now = _number(os.path.join(folder, limit)), _number(os.path.join(folder, used))
    if most is None or now is None:
        return None
    return most - now + _table(os.path.join(folder, statistics)).get(cache, 0)


def _number(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError), open(path) as file:  # "max" is no number
        return int(file.read())
    return None


def _table(path: str) -> dict[str, int]:
    """Reads the lines `name number …` of a file; empty if there is no such file."""
    with contextlib.suppress(OSError), open(path) as file:
        rows = [line.split() for line in file]
        return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    return {}

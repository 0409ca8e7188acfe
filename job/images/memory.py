"""How much memory a worker may take, and whether its images fit."""

import contextlib
import os

from job.config import FitConfig
from job.distribute.replicas import Replicas
from pipeline.shards.manifest import Manifest

# What an image costs beside its pixels: norm, digest, cluster, gap and the widest screen.
STATE_BYTES = 8 + 8 + 8 + 4 + 4 * 128
RESIDENT_SHARE = 0.75  # of what is available; the rest is for blocks, graphs and other processes
# What a state may take: so much altogether, or this share of the bytes of the images where they are
# held too and that is more; but no more than this share of what is left.
LITTLE_BYTES, STATE_SHARE, SPARE_SHARE = 512 << 20, 1 / 8, 0.5
CGROUPS = (
    # (limit, used, statistics, the name there of what the kernel gives back when asked)
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def fits(config: FitConfig, manifest: Manifest, replicas: Replicas) -> bool:
    """Whether this worker is to keep its images in memory."""
    if config.memory != "auto":
        return config.memory == "resident"
    own = manifest.shards[replicas.worker :: replicas.num_workers]
    pixel_bytes = 1 if manifest.dtype == "uint8" else 4
    image_bytes = manifest.num_features * pixel_bytes + STATE_BYTES
    needed = sum(shard.num_images for shard in own) * image_bytes
    return needed <= RESIDENT_SHARE * available_bytes()


def spare_row_bytes(num_images: int, held_bytes: int) -> int:
    """What a state may take for each of `num_images`, of which `held_bytes` are in memory."""
    wanted = max(STATE_SHARE * held_bytes, LITTLE_BYTES)
    return int(min(wanted, SPARE_SHARE * available_bytes()) / max(1, num_images))


def available_bytes(root: str = "/") -> int:
    """What the machine and its cgroup leave; what is not known does not limit."""
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
    """The lines `name number …` of a file."""
    with contextlib.suppress(OSError), open(path) as file:
        rows = [line.split() for line in file]
        return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    return {}

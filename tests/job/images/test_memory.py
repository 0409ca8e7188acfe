"""How much memory there is, as a fake root of Linux tells it, and what fits it."""

import numpy as np
import pytest
import shard_set

from job.config import FitConfig
from job.distribute.replicas import local_replicas
from job.images import memory
from pipeline.shards.manifest import load_manifest


@pytest.fixture(params=["uint8", "float32"])
def shards(request, tmp_path):
    """A folder of shards and its images [431, 30]."""
    pixels = np.random.default_rng(5).integers(0, 256, (431, 30)).astype(request.param)
    shard_set.write_plain(folder := tmp_path / "shards", pixels)
    return str(folder), pixels


V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/memory/"


def machine(root, files: dict[str, str]) -> str:
    """A root with `files` by path, of a machine with 1000 KiB to spare."""
    meminfo = "MemTotal: 9 kB\nMemAvailable: 1000 kB\nHugePages_Total: none\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        (path := root / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ({}, 1000 * 1024),
        ({V2 + "memory.max": "max\n", V2 + "memory.current": "5\n"}, 1000 * 1024),
        ({V2 + "memory.max": "5000\n", V2 + "memory.current": "2000\n"}, 3000),
        (
            {
                V2 + "memory.max": "5000\n",
                V2 + "memory.current": "2000\n",
                V2 + "memory.stat": "anon 900\ninactive_file 1000\n",
            },
            4000,
        ),
        (
            {
                V1 + "memory.limit_in_bytes": "7000\n",
                V1 + "memory.usage_in_bytes": "3000\n",
                V1 + "memory.stat": "total_inactive_file 500\n",
            },
            4500,
        ),
    ],
)
def test_the_tighter_of_machine_and_cgroup_counts(tmp_path, cgroup, expected):
    assert memory.available_bytes(machine(tmp_path, cgroup)) == expected


def test_what_is_not_known_does_not_limit(tmp_path):
    assert memory.available_bytes(str(tmp_path)) > 1 << 60
    limit = {V2 + "memory.max": "5000\n"}  # and nobody says how much of it is used
    assert memory.available_bytes(machine(tmp_path, limit)) == 1000 * 1024


def test_a_cgroup_above_its_limit_leaves_nothing(tmp_path):
    used = {V2 + "memory.max": "5000\n", V2 + "memory.current": "6000\n"}
    assert memory.available_bytes(machine(tmp_path, used)) == 0


def test_this_machine_has_memory():
    assert 0 < memory.available_bytes() < 1 << 60


def test_auto_streams_what_does_not_fit(shards, monkeypatch):
    folder, pixels = shards
    manifest, replicas = load_manifest(folder), local_replicas()
    needed = len(pixels) * (30 * pixels.itemsize + memory.STATE_BYTES)
    for available, fits in [(needed * 1.5, True), (needed, False)]:
        monkeypatch.setattr(memory, "available_bytes", lambda value=available: value)
        assert memory.fits(FitConfig(folder, "", k=2), manifest, replicas) is fits
        for forced in ("resident", "stream"):
            config = FitConfig(folder, "", k=2, memory=forced)
            assert memory.fits(config, manifest, replicas) is (forced == "resident")


def test_a_state_takes_little_beside_many_images(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 32 << 30)
    assert memory.spare_row_bytes(8_100_000, 8_100_000 * 784) == 98  # an eighth
    assert memory.spare_row_bytes(8_100_000, 0) == (512 << 20) // 8_100_000
    assert memory.spare_row_bytes(60_000, 60_000 * 784) == (512 << 20) // 60_000
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 << 20)
    assert memory.spare_row_bytes(60_000, 60_000 * 784) == (50 << 20) // 60_000
    assert memory.spare_row_bytes(0, 0) == 50 << 20  # a worker without images

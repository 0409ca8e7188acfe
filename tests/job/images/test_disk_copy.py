"""Copies of remote shards: checked, and gone with whoever made them."""

import collections
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from job.images import disk_copy
from job.images.disk_copy import PREFIX, DiskCopy
from pipeline import storage
from pipeline.errors import UserError


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_copies_are_those_in_the_bucket_and_go(temporary, bucket):
    files = {f"images-{number}.tfrecord": b"%d" % number * 100 for number in range(9)}
    for name, data in files.items():
        storage.write_bytes(f"{bucket}/{name}", data)
    copy = DiskCopy(bucket)
    folder = Path(copy.folder)
    assert folder.parent == temporary
    assert list(copy.add(dict.fromkeys(files, 100))) == list(files)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    del copy
    assert list(temporary.iterdir()) == []


def test_missing_shard(temporary, bucket):
    copy = DiskCopy(bucket)
    with pytest.raises(UserError, match="/none: cannot read: no such object"):
        list(copy.add({"none": 1}))


def test_disk_that_is_too_small(temporary, bucket, monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(UserError, match=r"its shards, 1,001 bytes, do not fit .* where 1,000 are"):
        list(DiskCopy(bucket).add({"images": 1001}))


def test_what_a_killed_process_left_is_removed(temporary):
    used = DiskCopy("gs://bucket/shards")
    (Path(used.folder) / "images").write_bytes(b"1")
    code = (
        "import os, signal, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from job.images.disk_copy import DiskCopy\n"
        "copy = DiskCopy('gs://bucket/shards')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(temporary)], check=False)
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 2
    disk_copy.remove_abandoned()
    assert [str(path) for path in temporary.iterdir()] == [used.folder]
    assert (Path(used.folder) / "images").read_bytes() == b"1"

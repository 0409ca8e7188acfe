"""Remote shards on this machine's disk, for as long as they are read again and again."""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline import storage
from pipeline.errors import UserError

PREFIX = "kmeans-job-shards-"
DOWNLOADS = 4  # at the same time


class DiskCopy:
    """Copies of some files of a remote folder, which go when this object does.

    What a run that was killed left is removed by the next one on this machine.

    Attributes:
      folder: the local one.
    """

    def __init__(self, remote: str):
        """Makes an empty folder where the operating system keeps temporary files (TMPDIR)."""
        remove_abandoned()
        self._remote = remote
        self._temporary, lock = _locked_folder()
        self.folder = self._temporary.name
        weakref.finalize(self, os.close, lock)

    def add(self, sizes: dict[str, int]) -> Iterator[str]:
        """Copies files; yields the name of each when it is here.

        Args:
          sizes: bytes of each, by name.

        Raises:
          UserError: they do not fit the disk, or cannot be read.
        """
        needed, free = sum(sizes.values()), shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self._remote}: its shards, {needed:,} bytes, do not fit {self.folder}, where "
                f"{free:,} are free; set TMPDIR to a folder on a larger disk, or use more workers"
            )
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            try:
                yield from pool.map(self._copy, sizes)
            finally:
                pool.shutdown(cancel_futures=True)

    def _copy(self, name: str) -> str:
        storage.copy_to_disk(storage.join(self._remote, name), os.path.join(self.folder, name))
        return name


def remove_abandoned() -> None:
    """Removes the copies of processes that are gone."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{PREFIX}*")):
        with contextlib.suppress(OSError):  # in use, or another user's
            lock = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked_folder() -> tuple[tempfile.TemporaryDirectory, int]:
    """A new folder, and what holds it."""
    while True:
        temporary = tempfile.TemporaryDirectory(prefix=PREFIX)
        try:
            return temporary, _lock(temporary.name)
        except (BlockingIOError, FileNotFoundError):  # another process took it for abandoned
            temporary.cleanup()


def _lock(folder: str) -> int:
    """A descriptor that holds `folder` until it is closed, at the latest when the process ends.

    Raises:
      OSError: another holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

"""Copies of remote shards on the local disk, for passes that read them again and again."""

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
    """Copies of files of a remote folder, removed from the disk together with this object.

    What a killed run leaves behind, the next run on the machine removes.

    Attributes:
      folder: the local folder with the copies.
    """

    def __init__(self, remote: str):
        """Makes an empty folder where the operating system keeps temporary files (TMPDIR)."""
        remove_abandoned()
        self._remote = remote
        self._temporary, lock = _locked_folder()
        self.folder = self._temporary.name
        weakref.finalize(self, os.close, lock)

    def add(self, sizes: dict[str, int]) -> Iterator[str]:
        """Copies files; yields the name of each once it is copied.

        Args:
          sizes: the files' sizes in bytes, by name.

        Raises:
          UserError: they do not fit on the disk, or one cannot be read.
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
    """Removes the copies of processes that have ended."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{PREFIX}*")):
        with contextlib.suppress(OSError):  # it is in use, or belongs to another user
            lock = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked_folder() -> tuple[tempfile.TemporaryDirectory, int]:
    """Makes a new folder; returns it and the descriptor of its lock."""
    while True:
        temporary = tempfile.TemporaryDirectory(prefix=PREFIX)
        try:
            return temporary, _lock(temporary.name)
        except (BlockingIOError, FileNotFoundError):  # another process removes it as abandoned
            temporary.cleanup()


def _lock(folder: str) -> int:
    """Locks `folder`; returns a descriptor that holds the lock until it is closed.

    The operating system closes it when the process ends, however that happens.

    Raises:
      OSError: it is locked already.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

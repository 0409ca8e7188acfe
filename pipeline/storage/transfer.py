"""What remote storages share: copies on disk, checksums, files that grow, requests in parallel."""

import base64
import collections
import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import google_crc32c

from pipeline.errors import Conflict, UserError
from pipeline.storage import local

LOG_SECONDS = 10.0  # between two versions of an object that grows
READ_BYTES = 8 << 20
REQUESTS = 8  # at the same time: clients keep ten connections
SMALL_BYTES = 1 << 20  # smaller files are read into memory, others through a copy on disk
RECENT_BYTES = 1 << 30  # disk for the copies of the files that were read last


def is_seen(name: str, hidden: bool) -> bool:
    """Whether `walk` finds a file, by its path; one that ends with a slash stands for a folder.

    Args:
      hidden: whether it finds hidden ones too.
    """
    parts = name.split("/")
    return "" not in parts and (hidden or not any(part.startswith(".") for part in parts))


class RecentCopies:
    """Copies on disk of the files that were read last; none outlives the process."""

    def __init__(self, max_bytes: int = RECENT_BYTES):
        self._max_bytes = max_bytes
        self._files: collections.OrderedDict[Any, BinaryIO] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, download: Callable[[str], Any]) -> BinaryIO:
        """Returns the copy under `key`; without one, `download` is called with a path to fill."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        with temporary_files(), tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "copy")
            download(path)
            # The file loses its name with the folder, and its bytes with its last reader.
            file = open(path, "rb")  # noqa: SIM115
        with self._lock:
            self._files[key] = file
            while len(self._files) > 1 and sum(map(_size, self._files.values())) > self._max_bytes:
                self._files.popitem(last=False)  # readers keep their own reference
        return file


class View(io.RawIOBase):
    """A file of which each reader has a position of its own."""

    def __init__(self, file: BinaryIO):
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        count = os.preadv(self._file.fileno(), [target], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, _size(self._file))[whence]
        return self._at


class GrowingObject:
    """A log in a storage that cannot append: it is published anew as it grows."""

    def __init__(
        self,
        publish: Callable[[], contextlib.AbstractContextManager[BinaryIO]],
        text: bytes,
        clock: Callable[[], float],
    ):
        self._publish, self._clock = publish, clock
        self._text, self._unpublished = bytearray(text), True
        self.flush()

    def write(self, data: bytes) -> None:
        """Appends `data`, and publishes if it is time."""
        self._text += data
        self._unpublished = True
        if self._clock() - self._last >= LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Publishes what was written since the last time."""
        if self._unpublished:
            with self._publish() as file:
                file.write(self._text)
            self._unpublished = False
        self._last = self._clock()

    close = flush


def each_read(read: Callable[[str], bytes], paths: Iterable[str]) -> Iterator[bytes | UserError]:
    """Calls `read` for each path, several at a time; yields the bytes, or the error, in order."""

    def outcome(path: str) -> bytes | UserError:
        try:
            return read(path)
        except UserError as error:
            return error

    with ThreadPoolExecutor(REQUESTS) as pool:
        coming: collections.deque[Future[bytes | UserError]] = collections.deque()
        for path in paths:
            coming.append(pool.submit(outcome, path))
            if len(coming) == 2 * REQUESTS:
                yield coming.popleft().result()
        yield from (future.result() for future in coming)


def conflict(what: str) -> Conflict:
    """The error for a marker that another writer has published; `what` begins the message."""
    return Conflict(
        f"{what}: another writer was faster, and what it published stays; let one job at a time "
        "write there, or give another --output"
    )


def temporary_files() -> contextlib.AbstractContextManager[None]:
    """Translates errors of the system inside the block into messages about temporary files."""
    return local.explained(tempfile.gettempdir(), "write")


def crc32c(file: BinaryIO) -> str:
    """The CRC-32C of all bytes of `file`, in base 64 as Google's storage gives it.

    The file is at its end afterwards.
    """
    file.seek(0)
    checksum = google_crc32c.Checksum()
    while data := file.read(READ_BYTES):
        checksum.update(data)
    return base64.b64encode(checksum.digest()).decode()


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size

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

from pipeline.errors import UserError
from pipeline.storage import local

LOG_SECONDS = 10.0  # between two versions of an object that grows
READ_BYTES = 8 << 20
REQUESTS = 8  # at the same time: clients hold ten connections


class RecentCopies:
    """Copies on disk of the objects that were read last; nothing of them outlives the process."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._files: collections.OrderedDict[Any, tuple[BinaryIO, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, num_bytes: int, download: Callable[[str], Any]) -> BinaryIO:
        """The copy under `key`; if there is none, `download` writes it to the path that it gets."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key][0]
        with on_disk(), tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "copy")
            download(path)
            # The file has no name any more when the folder is gone: it ends with its last reader.
            file = open(path, "rb")  # noqa: SIM115
        with self._lock:
            self._files[key] = file, num_bytes
            while len(self._files) > 1 and self._held_bytes() > self._max_bytes:
                self._files.popitem(last=False)  # readers keep their own reference
        return file

    def _held_bytes(self) -> int:
        return sum(num_bytes for _, num_bytes in self._files.values())


class View(io.RawIOBase):
    """A file, read from a position of its own."""

    def __init__(self, file: BinaryIO, num_bytes: int):
        self._file, self._num_bytes, self._at = file, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        count = os.preadv(self._file.fileno(), [target], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._num_bytes)[whence]
        return self._at


class Checked:
    """A file that is written in order, and the checksum of what was."""

    def __init__(self, file: BinaryIO):
        self._file, self._crc = file, google_crc32c.Checksum()

    def write(self, data: bytes) -> int:
        self._crc.update(data)
        return self._file.write(data)

    def checksum(self) -> str:
        """CRC-32C of it."""
        return _text(self._crc)


class GrowingObject:
    """An object that is made anew as it grows: objects cannot be appended to."""

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
        """Publishes what is not published."""
        if self._unpublished:
            with self._publish() as file:
                file.write(self._text)
            self._unpublished = False
        self._last = self._clock()

    close = flush


def each_read(read: Callable[[str], bytes], paths: Iterable[str]) -> Iterator[bytes | UserError]:
    """What `read` returns for each path, or why it cannot be read, in order; several at a time."""

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


def on_disk() -> contextlib.AbstractContextManager[None]:
    """Translates what the system refuses inside the block: it is about temporary files."""
    return local.refusals(tempfile.gettempdir(), "write")


def measure(file: BinaryIO) -> tuple[int, str]:
    """Bytes in `file`, and their checksum."""
    file.seek(0)
    crc, size = google_crc32c.Checksum(), 0
    while data := file.read(READ_BYTES):
        crc.update(data)
        size += len(data)
    return size, _text(crc)


def _text(crc: google_crc32c.Checksum) -> str:
    """A CRC-32C as Google's storage says it: in base 64."""
    return base64.b64encode(crc.digest()).decode()

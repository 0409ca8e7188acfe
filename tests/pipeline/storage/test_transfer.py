"""What remote storages share: copies on disk, files that grow, checksums."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.storage import transfer


def test_log_is_published_now_and_then():
    seconds, published = [0.0], []

    @contextlib.contextmanager
    def publish() -> Iterator[BinaryIO]:
        yield (file := io.BytesIO())
        published.append(file.getvalue())

    log = transfer.GrowingObject(publish, b"0", lambda: seconds[0])
    assert published == [b"0"]
    log.write(b"1")
    assert published == [b"0"]
    seconds[0] = transfer.LOG_SECONDS
    log.write(b"2")
    assert published == [b"0", b"012"]
    log.write(b"3")
    log.flush()
    assert published[2:] == [b"0123"]
    log.close()
    assert len(published) == 3


def test_recent_files_take_so_much_of_the_disk():
    recent = transfer.RecentCopies(max_bytes=10)
    downloads = []

    def read_key(key: int) -> bytes:
        def download(path: str) -> None:
            downloads.append(key)
            Path(path).write_bytes(b"%d" % key * 6)

        return transfer.View(recent.get(key, download)).read()

    first = transfer.View(recent.get(1, lambda path: Path(path).write_bytes(b"111111")))
    assert [read_key(2), read_key(2), read_key(1)] == [b"2" * 6, b"2" * 6, b"1" * 6]
    assert downloads == [2, 1]
    assert first.read() == b"111111"  # its reader keeps it


def test_view_is_a_file():
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        view, other = (io.BufferedReader(transfer.View(file)) for _ in range(2))
        assert view.read(3) == b"012"
        assert other.read(2) == b"01"
        assert view.seek(-2, os.SEEK_END) == 8
        assert view.read() == b"89"
        assert view.seek(1) == view.tell() == 1
        assert view.read(1) == b"1"


def test_checksum_is_what_google_gives():
    """The check value of CRC-32C (RFC 3720) in base 64."""
    assert transfer.crc32c(io.BytesIO(b"123456789")) == "4waSgw=="

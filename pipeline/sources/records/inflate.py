"""Reading zlib streams as files: Python's library has a reader of gzip files only."""

import io
import os
import zlib
from typing import BinaryIO

_READ_BYTES = 1 << 16


class ZlibReader(io.RawIOBase):
    """The unpacked content of a zlib stream; to seek backwards, it begins anew."""

    def __init__(self, packed: BinaryIO):
        self._packed = packed
        self._begin()

    def _begin(self) -> None:
        self._packed.seek(0)
        self._unpacker = zlib.decompressobj()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target) -> int:
        data = b""
        while not (data or self._unpacker.eof):
            packed = self._unpacker.unconsumed_tail or self._packed.read(_READ_BYTES)
            if not packed:
                raise EOFError("the stream ends before its end marker")
            data = self._unpacker.decompress(packed, len(target))
        target[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            raise io.UnsupportedOperation("the length is not known")
        if offset < self._at:
            self._begin()
        buffer = memoryview(bytearray(_READ_BYTES))
        while self._at < offset and self.readinto(buffer[: offset - self._at]):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

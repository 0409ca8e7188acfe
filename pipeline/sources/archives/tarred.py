"""The files in a tar archive, one after the other, packed by gzip or not."""

import functools
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.sources.archives.member import Member, NoFile
from pipeline.sources.checks import text_of


def members(file: BinaryIO, start: int) -> Iterator[Member | NoFile]:
    """Yields the files in the archive from the offset `start` on.

    Raises:
      ValueError: the archive is damaged, or is none.
    """
    file.seek(start)
    try:
        archive = tarfile.TarFile(fileobj=file, errors="surrogateescape")
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
            name = text_of(info.name.encode("utf-8", "surrogateescape"))
            if info.isreg():
                yield Member(name, info.offset, functools.partial(_content, file, info))
            elif not info.isdir():
                yield NoFile(name, info.offset, "a link within the archive")
        # Python's reader ends in silence where a header is damaged or the archive is cut short.
        file.seek(archive.offset)
        end = file.read(tarfile.BLOCKSIZE)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error
    if len(end) < tarfile.BLOCKSIZE:
        raise ValueError("cut short: its end marker is missing")
    if end.strip(b"\0"):
        raise ValueError(f"no header of a file at byte {archive.offset:,}")


def _content(file: BinaryIO, info: tarfile.TarInfo) -> bytes:
    file.seek(info.offset_data)
    data = file.read(info.size)
    if len(data) < info.size:
        raise ValueError(f"{info.name} is cut short")
    return data

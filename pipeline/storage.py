"""Files, wherever they are: read, list, publish atomically, remove.

Paths are strings. Whatever the operating system refuses is a UserError that names the path.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.errors import UserError

TEMPORARY_SUFFIX = ".tmp"


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`."""
    return os.path.join(directory, *names)


def exists(path: str) -> bool:
    """Whether there is a file or a folder at `path`."""
    with _refusals(path, "read"):
        return os.path.exists(_local(path))


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    with _refusals(path, "read"):
        return os.path.isdir(_local(path))


def list_names(folder: str) -> list[str]:
    """Names in `folder`, sorted; empty where there is no such folder."""
    with _refusals(folder, "list"):
        return sorted(os.listdir(_local(folder))) if os.path.isdir(folder) else []


def size_bytes(path: str) -> int:
    """Size of a file."""
    with _refusals(path, "read"):
        return os.path.getsize(_local(path))


@contextlib.contextmanager
def open_read(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes."""
    with _refusals(path, "read"), open(_local(path), "rb") as file:
        yield file


def read_bytes(path: str) -> bytes:
    """A whole file."""
    with open_read(path) as file:
        return file.read()


def read_into(path: str, offset: int, target: memoryview) -> None:
    """Fills `target` with the bytes of a file from `offset`.

    Raises:
      UserError: the file cannot be read, or ends before `target` is full.
    """
    with _refusals(path, "read"), open(_local(path), "rb", buffering=0) as file:
        file.seek(offset)
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                raise UserError(f"{path}: shorter than it was; shard the set again")
            done += count


@contextlib.contextmanager
def publish(path: str) -> Iterator[BinaryIO]:
    """A file to write; it appears at `path` whole, when the block ends, or not at all."""
    path = _local(path)
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    with _refusals(path, "write"):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise


def open_append(path: str) -> BinaryIO:
    """A file to append to, whose bytes are there for other readers as soon as they are written."""
    with _refusals(path, "write"):
        return open(_local(path), "ab", buffering=0)


def write_bytes(path: str, data: bytes) -> None:
    """Publishes `data` at `path`."""
    with publish(path) as file:
        file.write(data)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    with _refusals(path, "write"):
        os.makedirs(_local(path), exist_ok=True)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens where there is none."""
    with _refusals(path, "remove"):
        if os.path.isdir(_local(path)):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def _local(path: str) -> str:
    if "://" in path:
        raise UserError(f"{path}: only local paths are supported so far; copy it to a local folder")
    return path


@contextlib.contextmanager
def _refusals(path: str, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot {verb}: {error.strerror or error}; check the path and its permissions"
        ) from error

"""Files, wherever they are: read, list, publish atomically, remove.

Paths are strings. Whatever the operating system refuses is a UserError that names the path, and a
Refused where it is not for good.
"""

import contextlib
import errno
import glob
import gzip
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from pipeline.errors import Refused, UserError

TEMPORARY_SUFFIX = ".tmp"
RETRY_SECONDS = (0.1, 1.0)  # between the tries of a read or write that may work later
T = TypeVar("T")
_FOR_GOOD = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


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


def matching(pattern: str) -> list[str]:
    """Paths that a glob matches, sorted; ** stands for any folders."""
    return sorted(glob.glob(_local(pattern), recursive=True))


def folders(path: str) -> list[str]:
    """Names of the folders in `path`, sorted, without hidden ones and those that hold `path`."""
    inside = (os.path.realpath(path),)
    with _refusals(path, "list"), os.scandir(_local(path)) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not _is_hidden(entry) and _is_folder(entry) and not _holds(entry, inside)
        )


def walk(folder: str, deep: bool = True) -> Iterator[str]:
    """Files in `folder` and, if `deep`, below it: relative paths, in no order, none held.

    Hidden files are left out. Links are followed, but not to a folder that they lie in.
    """
    yield from _walk(_local(folder), "", deep, (os.path.realpath(folder),))


def _walk(root: str, below: str, deep: bool, inside: tuple[str, ...]) -> Iterator[str]:
    folder = os.path.join(root, below)
    with _refusals(folder, "list"), os.scandir(folder) as entries:
        for entry in entries:
            name = os.path.join(below, entry.name)
            if _is_hidden(entry):
                continue
            if not _is_folder(entry):
                yield name
            elif deep and not _holds(entry, inside):
                yield from _walk(root, name, deep, (*inside, os.path.realpath(entry.path)))


def _holds(entry: os.DirEntry, inside: tuple[str, ...]) -> bool:
    """Whether a link leads to a folder that one of `inside` is or lies in: a circle."""
    if not entry.is_symlink():
        return False
    real = os.path.realpath(entry.path)
    return any(os.path.commonpath((real, folder)) == real for folder in inside)


def _is_hidden(entry: os.DirEntry) -> bool:
    return entry.name.startswith(".")


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def size_bytes(path: str) -> int:
    """Size of a file."""
    with _refusals(path, "read"):
        return os.path.getsize(_local(path))


@contextlib.contextmanager
def open_read(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes."""
    with _refusals(path, "read"), open(_local(path), "rb") as file:
        yield file


@contextlib.contextmanager
def open_unpacked(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes, unpacked on the way if it is a gzip file."""
    with open_read(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        unpacked: Any = gzip.GzipFile(fileobj=file) if packed else file
        try:
            yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: damaged gzip file ({error}); make it again") from error


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


def copy(source: str, target: str) -> None:
    """Publishes the content of the file `source` at `target`."""
    with open_read(source) as read, publish(target) as written:
        shutil.copyfileobj(read, written)


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


def retrying(action: Callable[[], T], wait: Callable[[float], Any] = time.sleep) -> T:
    """What `action` returns, which is tried again, after a `wait`, while it is Refused."""
    for seconds in RETRY_SECONDS:
        try:
            return action()
        except Refused:
            wait(seconds)
    return action()


def _local(path: str) -> str:
    if "://" in path:
        raise UserError(f"{path}: only local paths are supported so far; copy it to a local folder")
    return path


@contextlib.contextmanager
def _refusals(path: str, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = UserError if error.errno in _FOR_GOOD else Refused
        raise kind(
            f"{path}: cannot {verb}: {error.strerror or error}; check the path and its permissions"
        ) from error

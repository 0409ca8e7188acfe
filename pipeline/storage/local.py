"""Files of this machine's file system."""

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.errors import TransientError, UserError

TEMPORARY_SUFFIX = ".tmp"
# A job that was killed may leave a process that needs some seconds to end.
LOCK_SECONDS, LOCK_PAUSE_SECONDS = 6.0, 0.1
# Errors that would come again; others, as of a network drive that is away, may pass.
_PERMANENT = {
    errno.EACCES,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def exists(path: str) -> bool:
    """Whether there is a file or a folder at `path`."""
    with explained(path, "read"):
        return os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    with explained(path, "read"):
        return os.path.isdir(path)


def list_names(folder: str) -> list[str]:
    """Names in `folder`, sorted; empty where there is no such folder."""
    with explained(folder, "list"):
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def matching(pattern: str) -> list[str]:
    """Paths that a glob matches; ** stands for any folders."""
    return glob.glob(pattern, recursive=True)


def folders(path: str) -> list[str]:
    """Names of the folders in `path`, sorted, without hidden ones and those that hold `path`."""
    inside = (os.path.realpath(path),)
    with explained(path, "list"), os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not _is_hidden(entry) and _is_folder(entry) and not _holds(entry, inside)
        )


def walk(folder: str, deep: bool = True, hidden: bool = False) -> Iterator[str]:
    """Files in `folder` and, if `deep`, below it: relative paths, in no order, none held.

    Links are followed, but not to a folder that they lie in. Hidden files, and all files in hidden
    folders, are found only with `hidden`.
    """
    yield from _walk(folder, "", deep, hidden, (os.path.realpath(folder),))


def _walk(
    root: str, below: str, deep: bool, hidden: bool, inside: tuple[str, ...]
) -> Iterator[str]:
    folder = os.path.join(root, below)
    with explained(folder, "list"), os.scandir(folder) as entries:
        for entry in entries:
            name = os.path.join(below, entry.name)
            if _is_hidden(entry):
                if hidden:
                    yield from _files_of_hidden(entry, name)
            elif not _is_folder(entry):
                yield name
            elif deep and not _holds(entry, inside):
                real = os.path.realpath(entry.path)
                yield from _walk(root, name, deep, hidden, (*inside, real))


def _files_of_hidden(entry: os.DirEntry, name: str) -> Iterator[str]:
    """A hidden file, or all files in a hidden folder; a link counts as a file.

    Nobody reads them, so one that may not be listed, as some of a system's, is no error.
    """
    if entry.is_symlink() or not _is_folder(entry):
        yield name
        return
    for folder, _, names in os.walk(entry.path):
        below = os.path.relpath(folder, entry.path)
        yield from (os.path.normpath(os.path.join(name, below, each)) for each in names)


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


def file_sizes(folder: str) -> dict[str, int]:
    """Size in bytes of each file in `folder`; empty where there is no such folder."""
    if not os.path.isdir(folder):
        return {}
    sizes = {}
    with explained(folder, "list"), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
                if not _is_folder(entry):
                    sizes[entry.name] = entry.stat().st_size
    return sizes


@contextlib.contextmanager
def open_read(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes."""
    with explained(path, "read"), open(path, "rb") as file:
        yield file


def read_bytes(path: str) -> bytes:
    """A whole file."""
    with open_read(path) as file:
        return file.read()


def copy_to_disk(path: str, target: str) -> None:
    """Copies a file to another place."""
    with explained(path, "read"):
        shutil.copyfile(path, target)


def read_into(path: str, offset: int, target: memoryview) -> None:
    """Fills `target` with the bytes of a file from `offset`.

    Raises:
      UserError: the file cannot be read, or ends before `target` is full.
    """
    with explained(path, "read"), open(path, "rb", buffering=0) as file:
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
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    with explained(path, "write"):
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


def write_once(path: str, *data: bytes | memoryview) -> None:
    """Publishes `data`, joined, at `path`; of several writers the last one wins."""
    with publish(path) as file:
        file.writelines(data)


def open_log(path: str, text: bytes) -> BinaryIO:
    """A file that begins with `text`, whose bytes others see as soon as they are written."""
    write_once(path, text)
    with explained(path, "write"):
        return open(path, "ab", buffering=0)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    with explained(path, "write"):
        os.makedirs(path, exist_ok=True)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keeps other jobs from locking `folder` during the block, where its file system has locks.

    The system drops the lock when the process ends, however it ends.

    Raises:
      UserError: another job has locked it, and keeps the lock for LOCK_SECONDS.
    """
    with explained(folder, "read"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: str) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise UserError(
                    f"{folder}: another kmeans-job is writing there; wait until it has ended, or "
                    "give another --output"
                ) from None
        except OSError:  # there are none, as on some network drives
            return None
        time.sleep(LOCK_PAUSE_SECONDS)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens where there is none."""
    with explained(path, "remove"):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


@contextlib.contextmanager
def explained(path: str, verb: str) -> Iterator[None]:
    """Translates errors of the system inside the block into messages about `path`.

    Raises:
      UserError: `path` cannot be read, listed, written or removed (`verb`).
      TransientError: likewise, but it may work later.
    """
    try:
        yield
    except IsADirectoryError as error:
        raise UserError(
            f"{path}: is a folder where a file is meant; give the file, or move the folder away"
        ) from error
    except OSError as error:
        kind = UserError if error.errno in _PERMANENT else TransientError
        raise kind(
            f"{path}: cannot {verb}: {error.strerror or error}; check the path and its permissions"
        ) from error

"""Files, wherever they are: read, list, publish atomically, remove.

Paths are strings: local ones, gs://BUCKET/NAME, or of any scheme that fsspec knows. What a storage
refuses is a UserError that names the path; a TransientError where it may succeed later. No client
is loaded, and nobody is asked anything, before a remote path is used.
"""

import contextlib
import functools
import gzip
import os
import pkgutil
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

from pipeline.errors import TransientError, UserError
from pipeline.storage import local
from pipeline.storage.local import TEMPORARY_SUFFIX as TEMPORARY_SUFFIX
from pipeline.storage.protocol import Log, Storage
from pipeline.storage.schemes import SCHEMES, scheme_named

RETRY_SECONDS = (0.1, 1.0)  # between the tries of a read or write that may work later
T = TypeVar("T")


def scheme_of(path: str) -> str:
    """The scheme of a remote path, e.g. `s3`; empty for a local one.

    Raises:
      UserError: no storage has this scheme.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    if not found:
        return ""
    name = found[1].lower()
    if scheme_named(name) is None:
        known = ", ".join(f"{other}://" for other in SCHEMES)
        raise UserError(
            f"{path}: no storage has the scheme {name}://; give a local path, or one of {known}"
        )
    return name


def storage_of(path: str) -> Storage:
    """The storage that `path` lies in.

    Raises:
      UserError: no storage has its scheme.
    """
    name = scheme_of(path)
    if not name:
        return local
    scheme = scheme_named(name)
    assert scheme
    return _remote(name, os.environ.get(scheme.server) if scheme.server else None)


@functools.cache
def _remote(name: str, server: str | None) -> Storage:
    """The one storage for all paths of a scheme on a `server`; it connects when first used."""
    scheme = scheme_named(name)
    assert scheme
    if scheme.makes:
        return pkgutil.resolve_name(scheme.makes)()
    from pipeline.storage.remote import RemoteFiles

    return RemoteFiles(name, scheme)


def is_local(path: str) -> bool:
    """Whether `path` is on this machine's file system."""
    return not scheme_of(path)


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`."""
    return os.path.join(directory, *names)


def common_folder(paths: Sequence[str]) -> str:
    """The innermost folder that all `paths` lie in.

    Raises:
      UserError: they lie in different storages.
    """
    schemes = {scheme_of(path) for path in paths}
    if len(schemes) > 1:
        raise UserError(f"{paths[0]} … {paths[-1]}: paths of different storages; give one kind")
    folder = os.path.commonpath([os.path.dirname(_absolute(path)) for path in paths])
    (scheme,) = schemes
    # hdfs:///FOLDER names no host, hdfs://HOST/FOLDER does.
    start = f"{scheme}:///" if paths[0].startswith(f"{scheme}:///") else f"{scheme}://"
    return start + folder.lstrip("/") if scheme else folder


def relative(path: str, folder: str) -> str:
    """`path` as it is seen from `folder`, which it lies in."""
    return os.path.relpath(_absolute(path), _absolute(folder))


def _absolute(path: str) -> str:
    """`path` as a local path could be: /BUCKET/NAME for a remote one."""
    scheme = scheme_of(path)
    return "/" + path[len(scheme) + 3 :].strip("/") if scheme else os.path.abspath(path)


def exists(path: str) -> bool:
    """Whether there is a file or a folder at `path`."""
    return storage_of(path).exists(path)


def is_folder(path: str) -> bool:
    """Whether `path` is a folder: remotely, whether anything lies below it."""
    return storage_of(path).is_folder(path)


def is_file(path: str) -> bool:
    """Whether there is something to read at `path`; a folder of that name is not."""
    return exists(path) and not is_folder(path)


def absence(path: str) -> str | None:
    """Says why there is nothing to read at `path`, in a few words; None if there is a file."""
    if is_file(path):
        return None
    return "is a folder where a file is meant" if exists(path) else "no such file"


def identity(path: str) -> str:
    """A text that two paths share if they lead to the same file or folder, e.g. by a link."""
    if scheme_of(path):
        return path.rstrip("/")
    status = os.stat(path)
    if not os.path.isdir(path) and status.st_nlink > 1:  # a hard link, which no name tells
        return f"{status.st_dev}:{status.st_ino}"
    return os.path.realpath(path)


def list_names(folder: str) -> list[str]:
    """Names in `folder`, sorted; empty where there is no such folder."""
    return storage_of(folder).list_names(folder)


def file_sizes(folder: str) -> dict[str, int]:
    """Size in bytes of each file in `folder`; empty where there is no such folder."""
    return storage_of(folder).file_sizes(folder)


def matching(pattern: str) -> list[str]:
    """Paths that a glob matches, sorted; ** stands for any folders."""
    return sorted(storage_of(pattern).matching(pattern))


def folders(path: str) -> list[str]:
    """Names of the folders in `path`, sorted, without hidden ones and those that hold `path`."""
    return storage_of(path).folders(path)


def walk(folder: str, deep: bool = True, hidden: bool = False) -> Iterator[str]:
    """Files in `folder` and, if `deep`, below it: relative paths, in no order, none held.

    Links are followed, but not to a folder that they lie in.

    Args:
      hidden: whether hidden files, and all files in hidden folders, are not left out. The latter
        are found even if not `deep`, because `folders` names no hidden folder.
    """
    return storage_of(folder).walk(folder, deep, hidden)


@contextlib.contextmanager
def open_read(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes."""
    with storage_of(path).open_read(path) as file:
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
    return storage_of(path).read_bytes(path)


def read_each(folder: str, names: Iterable[str]) -> Iterator[bytes | UserError]:
    """Whole files of `folder`, or why one cannot be read, in order; remote ones some at a time."""
    if not is_local(folder):
        from pipeline.storage.transfer import each_read

        yield from each_read(storage_of(folder).read_bytes, (join(folder, name) for name in names))
        return
    for name in names:
        try:
            yield read_bytes(join(folder, name))
        except UserError as error:
            yield error


def read_into(path: str, offset: int, target: memoryview) -> None:
    """Fills `target` with the bytes of a local file from `offset`.

    Raises:
      UserError: the file cannot be read, or ends before `target` is full.
    """
    local.read_into(path, offset, target)


@contextlib.contextmanager
def publish(path: str) -> Iterator[BinaryIO]:
    """A file to write; it appears at `path` whole, when the block ends, or not at all."""
    with storage_of(path).publish(path) as file:
        yield file


def write_bytes(path: str, data: bytes) -> None:
    """Publishes `data` at `path`."""
    with publish(path) as file:
        file.write(data)


def copy(source: str, target: str) -> None:
    """Publishes the content of the file `source` at `target`."""
    with open_read(source) as read, publish(target) as written:
        shutil.copyfileobj(read, written)


def write_once(path: str, *data: bytes | memoryview) -> None:
    """Publishes `data`, joined, at `path`, where nobody else may have published anything.

    Raises:
      Conflict: another has, meanwhile, and it is not the same. Not every storage tells, nor does a
        local file system, for which there is `locked`.
    """
    storage_of(path).write_once(path, *data)


def open_log(path: str, text: bytes) -> Log:
    """A file that begins with `text` and grows.

    Local readers see what is written as soon as it is; remote ones every few seconds, and
    whatever there is after `flush` and `close`.
    """
    return storage_of(path).open_log(path, text)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    storage_of(path).make_folder(path)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Makes `folder`, and keeps other jobs of this machine from writing there during the block.

    Remote folders have no locks: there `write_once` tells, where the storage can.

    Raises:
      UserError: another job has locked it, and does not end within some seconds.
    """
    if not is_local(folder) or (exists(folder) and not is_folder(folder)):
        yield
        return
    make_folder(folder)
    with local.locked(folder):
        yield


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens where there is none."""
    storage_of(path).remove(path)


def copy_to_disk(path: str, target: str) -> None:
    """Copies a file to the local path `target`."""
    storage_of(path).copy_to_disk(path, target)


def retrying(action: Callable[[], T], wait: Callable[[float], Any] = time.sleep) -> T:
    """What `action` returns; it is tried again, after a `wait`, if it raises a TransientError."""
    for seconds in RETRY_SECONDS:
        try:
            return action()
        except TransientError:
            wait(seconds)
    return action()

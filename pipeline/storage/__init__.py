"""Files, wherever they are: read, list, publish atomically, remove.

Paths are strings: local ones, or gs://BUCKET/NAME. Whatever the storage refuses is a UserError that
names the path, and a Refused where it is not for good. Nothing of Google is loaded, and nobody is
asked anything, before a gs:// path is used.
"""

import contextlib
import functools
import gzip
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol, TypeVar

from pipeline.errors import Refused, UserError
from pipeline.storage import local
from pipeline.storage.local import TEMPORARY_SUFFIX as TEMPORARY_SUFFIX

RETRY_SECONDS = (0.1, 1.0)  # between the tries of a read or write that may work later
REMOTE = "gs://"
T = TypeVar("T")


class Log(Protocol):
    """A file that grows."""

    def write(self, data: bytes, /) -> Any: ...
    def flush(self) -> Any:
        """All that was written is there for other readers."""
        ...

    def close(self) -> Any: ...


def is_local(path: str) -> bool:
    """Whether `path` is on this machine's file system; raises UserError for a foreign scheme."""
    if path.startswith(REMOTE):
        return False
    if found := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise UserError(
            f"{path}: {found[0]} paths are not supported; give a local or a {REMOTE} path"
        )
    return True


def join(directory: str, *names: str) -> str:
    """The path of `names` below `directory`."""
    return os.path.join(directory, *names)


def common_folder(paths: Sequence[str]) -> str:
    """The innermost folder that all `paths` lie in.

    Raises:
      UserError: some are local and some are not.
    """
    if len({is_local(path) for path in paths}) > 1:
        raise UserError(f"{paths[0]} … {paths[-1]}: local and {REMOTE} paths; give one kind")
    folder = os.path.commonpath([os.path.dirname(_absolute(path)) for path in paths])
    return folder if is_local(paths[0]) else REMOTE + folder.lstrip("/")


def relative(path: str, folder: str) -> str:
    """`path` as it is seen from `folder`, which it lies in."""
    return os.path.relpath(_absolute(path), _absolute(folder))


def _absolute(path: str) -> str:
    """`path` as a local path could be: /BUCKET/NAME for a remote one."""
    return os.path.abspath(path) if is_local(path) else "/" + path.removeprefix(REMOTE).strip("/")


def exists(path: str) -> bool:
    """Whether there is a file or a folder at `path`."""
    return _files(path).exists(path)


def is_folder(path: str) -> bool:
    """Whether `path` is a folder: remotely, whether anything lies below it."""
    return _files(path).is_folder(path)


def list_names(folder: str) -> list[str]:
    """Names in `folder`, sorted; empty where there is no such folder."""
    return _files(folder).list_names(folder)


def file_sizes(folder: str) -> dict[str, int]:
    """Size in bytes of each file in `folder`; empty where there is no such folder."""
    return _files(folder).file_sizes(folder)


def matching(pattern: str) -> list[str]:
    """Paths that a glob matches, sorted; ** stands for any folders."""
    return sorted(_files(pattern).matching(pattern))


def folders(path: str) -> list[str]:
    """Names of the folders in `path`, sorted, without hidden ones and those that hold `path`."""
    return _files(path).folders(path)


def walk(folder: str, deep: bool = True) -> Iterator[str]:
    """Files in `folder` and, if `deep`, below it: relative paths, in no order, none held.

    Hidden files are left out. Links are followed, but not to a folder that they lie in.
    """
    return _files(folder).walk(folder, deep)


@contextlib.contextmanager
def open_read(path: str) -> Iterator[BinaryIO]:
    """A file opened for reading bytes."""
    with _files(path).open_read(path) as file:
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
    return _files(path).read_bytes(path)


def read_each(folder: str, names: Iterable[str]) -> Iterator[bytes | UserError]:
    """Whole files of `folder`, or why one cannot be read, in order; remote ones some at a time."""
    if not is_local(folder):
        yield from _objects().read_each(join(folder, name) for name in names)
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
    with _files(path).publish(path) as file:
        yield file


def write_bytes(path: str, data: bytes) -> None:
    """Publishes `data` at `path`."""
    with publish(path) as file:
        file.write(data)


def copy(source: str, target: str) -> None:
    """Publishes the content of the file `source` at `target`."""
    with open_read(source) as read, publish(target) as written:
        shutil.copyfileobj(read, written)


def write_once(path: str, data: bytes) -> None:
    """Publishes `data` at `path`, where nobody else may have published anything.

    Raises:
      Taken: another has, meanwhile, and it is not the same. Local file systems do not tell: there
        the last one wins.
    """
    _files(path).write_once(path, data)


def open_log(path: str, text: bytes) -> Log:
    """A file that begins with `text` and grows.

    Local readers see what is written as soon as it is; remote ones every few seconds, and
    whatever there is after `flush` and `close`.
    """
    return _files(path).open_log(path, text)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    _files(path).make_folder(path)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens where there is none."""
    _files(path).remove(path)


def copy_to_disk(path: str, target: str) -> None:
    """Copies a remote file to the local path `target`, compared by checksum."""
    _objects().copy_to_disk(path, target)


def retrying(action: Callable[[], T], wait: Callable[[float], Any] = time.sleep) -> T:
    """What `action` returns, which is tried again, after a `wait`, while it is Refused."""
    for seconds in RETRY_SECONDS:
        try:
            return action()
        except Refused:
            wait(seconds)
    return action()


def _files(path: str) -> Any:
    """What answers for `path`: the module of local files, or the objects of Google's storage."""
    return local if is_local(path) else _objects()


def _objects() -> Any:
    return _objects_at(os.environ.get("STORAGE_EMULATOR_HOST"))


@functools.cache
def _objects_at(emulator: str | None) -> Any:
    """The objects of Google's storage, or of an emulator's; connected once."""
    from pipeline.storage import gcs

    return gcs.Objects()

"""Files of any storage that an fsspec backend serves: s3://, az://, hdfs://, https:// …

https://filesystem-spec.readthedocs.io. A backend is imported when a path of its scheme is first
used. Listings are never cached: another process may have written meanwhile.
"""

import contextlib
import errno
import functools
import io
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from pipeline.errors import TransientError, UserError
from pipeline.storage import local
from pipeline.storage.local import TEMPORARY_SUFFIX
from pipeline.storage.protocol import Log
from pipeline.storage.schemes import Scheme, not_installed
from pipeline.storage.transfer import (
    SMALL_BYTES,
    GrowingObject,
    RecentCopies,
    View,
    conflict,
    is_seen,
    temporary_files,
)

# How backends tell that the same request may succeed later: by number, by HTTP status, or by the
# name of a class that is not to be imported here.
_TRANSIENT_NUMBERS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.EAGAIN}
_TRANSIENT_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504}
_TRANSIENT_NAMES = (
    "Connect",
    "Timeout",
    "ServerDisconnected",
    "IncompleteRead",
    "ClientPayload",
    "ResponseParser",
    "FlexibleChecksum",
)
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_CREDENTIALS = ("Credential", "TokenRetrieval", "ClientAuthentication", "ProfileNotFound")


class RemoteFiles:
    """The files of all paths of one scheme."""

    def __init__(self, name: str, scheme: Scheme, clock: Callable[[], float] = time.monotonic):
        """Takes the scheme, and a clock (seconds) for the logs; connects when a path is used."""
        self._name, self._scheme, self._clock = name, scheme, clock
        self._recent = RecentCopies()

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_folder(self, path: str) -> bool:
        if not self._scheme.writes:
            return False  # a web server tells nobody what it has
        found = self._find(path)
        return found is not None and not _is_file(found)

    def list_names(self, folder: str) -> list[str]:
        return sorted(self._entries(folder))

    def file_sizes(self, folder: str) -> dict[str, int]:
        entries = self._entries(folder)
        return {name: entry["size"] for name, entry in entries.items() if _is_file(entry)}

    def folders(self, path: str) -> list[str]:
        entries = self._entries(path).items()
        return sorted(name for name, entry in entries if not _is_file(entry) and name[0] != ".")

    def matching(self, pattern: str) -> list[str]:
        with self._explained(pattern, "list"):
            files, short = self._at(pattern)
            found = files.glob(short)
        # As a shell does: what is hidden is only found by patterns that begin with a dot.
        asks_hidden = "/." in short
        start, short_start = _unlike_starts(pattern.rstrip("/"), short)
        return [
            start + path.removeprefix(short_start)
            for path in found
            if asks_hidden or "/." not in path
        ]

    def walk(self, folder: str, deep: bool, hidden: bool = False) -> Iterator[str]:
        with self._explained(folder, "list"):
            files, short = self._at(folder)
            root = short.rstrip("/") + "/"
            for path in _files_below(files, root, deep):
                name = path.removeprefix(root)
                if is_seen(name, hidden):
                    yield name
        if hidden and not deep:
            for name, entry in self._entries(folder).items():
                if name.startswith(".") and not _is_file(entry):
                    found_there = self.walk(f"{folder.rstrip('/')}/{name}", True, hidden)
                    yield from (f"{name}/{each}" for each in found_there)

    @contextlib.contextmanager
    def open_read(self, path: str) -> Iterator[BinaryIO]:
        """Opens a file for reading: in memory, or a copy on disk, which later calls may reuse."""
        with self._explained(path, "read"):
            files, short = self._at(path)
            found = files.info(short)
        size = found.get("size")  # None: a web server does not say
        if size is not None and size < SMALL_BYTES:
            opened: BinaryIO = io.BytesIO(self.read_bytes(path))
        else:
            # All that is known of a file tells its versions apart: ETag, time, size.
            key = path, str(found)
            file = self._recent.get(key, functools.partial(self.copy_to_disk, path))
            opened = io.BufferedReader(View(file))
        with opened:
            yield opened

    def read_bytes(self, path: str) -> bytes:
        with self._explained(path, "read"):
            files, short = self._at(path)
            return files.cat_file(short)

    def copy_to_disk(self, path: str, target: str) -> None:
        with local.explained(target, "write"), self._explained(path, "read"):
            files, short = self._at(path)
            files.get_file(short, target)

    @contextlib.contextmanager
    def publish(self, path: str) -> Iterator[BinaryIO]:
        self._refuse_writing(path)
        with temporary_files(), tempfile.NamedTemporaryFile() as file:
            yield file  # type: ignore[misc]
            file.flush()
            with self._explained(path, "write"):
                self._upload(file.name, path)

    def write_once(self, path: str, *data: bytes | memoryview) -> None:
        if not self._scheme.creates_only:
            with self.publish(path) as file:
                file.writelines(data)
            return
        whole = b"".join(data)
        with self._explained(path, "write"):
            files, short = self._at(path)
            try:
                files.pipe_file(short, whole, mode="create")
            except OSError as error:
                if not isinstance(error, FileExistsError) and _status(error) != 412:
                    raise
                # The answer to a write that worked may have been lost: then the file is ours.
                if self.read_bytes(path) != whole:
                    raise conflict(f"{path}: cannot write") from None

    def open_log(self, path: str, text: bytes) -> Log:
        return GrowingObject(functools.partial(self.publish, path), text, self._clock)

    def make_folder(self, path: str) -> None:
        self._refuse_writing(path)
        if not self._scheme.uploads_whole:  # object stores have no folders
            with self._explained(path, "write"):
                files, short = self._at(path)
                files.makedirs(short, exist_ok=True)

    def remove(self, path: str) -> None:
        self._refuse_writing(path)
        with self._explained(path, "remove"), contextlib.suppress(FileNotFoundError):
            files, short = self._at(path)
            # A bucket stays, as an account may be allowed to fill one but not to make it again.
            is_bucket = self._scheme.uploads_whole and "/" not in short.strip("/")
            for name in [entry["name"] for entry in self._list(path)] if is_bucket else [short]:
                files.rm(name, recursive=True)

    def _at(self, path: str) -> tuple[Any, str]:
        """The fsspec file system of `path`, and the path as it takes it.

        Hosts come from the path, credentials from the environment. fsspec keeps the file systems,
        and makes new ones in a process that was forked; threads may share them.
        """
        import fsspec.core

        return fsspec.core.url_to_fs(path, use_listings_cache=False, **self._scheme.options)

    def _find(self, path: str) -> dict[str, Any] | None:
        """What is known of a file or folder; None where there is none."""
        with self._explained(path, "read"):
            files, short = self._at(path)
            try:
                return files.info(short)
            except FileNotFoundError as error:
                if _reason(error) is not error:
                    raise
                return None

    def _list(self, folder: str) -> list[dict[str, Any]]:
        """What is known of each file and folder in `folder`, without itself."""
        # Asked first, since s3fs lists all that lies beside a folder that does not exist.
        if not self.is_folder(folder):
            return []
        with self._explained(folder, "list"):
            files, short = self._at(folder)
            try:
                found = files.ls(short, detail=True)
            except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
                return []
        # Some tools keep an empty object, named like the folder, where one is to be.
        return [entry for entry in found if entry["name"].strip("/") != short.strip("/")]

    def _entries(self, folder: str) -> dict[str, dict[str, Any]]:
        """Files and folders in `folder`, by name."""
        return {e["name"].rstrip("/").rpartition("/")[2]: e for e in self._list(folder)}

    def _upload(self, source: str, path: str) -> None:
        files, target = self._at(path)
        if self._scheme.uploads_whole:
            files.put_file(source, target)
            return
        temporary = f"{target}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        try:
            files.put_file(source, temporary)
            files.mv(temporary, target)
        except BaseException:
            with contextlib.suppress(Exception):
                files.rm_file(temporary)
            raise

    def _refuse_writing(self, path: str) -> None:
        if not self._scheme.writes:
            raise UserError(
                f"{path}: {self._name}:// paths can only be read; give a folder to write to"
            )

    @contextlib.contextmanager
    def _explained(self, path: str, verb: str) -> Iterator[None]:
        """Translates errors raised inside the block into messages about `path`.

        The text of an error may name accounts or hold signatures: it is left out.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if getattr(error, "errno", None) in _DISK_FULL:
                raise  # about a copy on this machine
            raise self._meaning(error, f"{path}: cannot {verb}") from error

    def _meaning(self, error: Exception, what: str) -> UserError:
        error = _reason(error)
        name, status = type(error).__name__, _status(error)
        if isinstance(error, ImportError):
            return not_installed(what, self._name)
        if any(part in name for part in _CREDENTIALS):
            return UserError(f"{what}: no credentials that work; {self._scheme.login}")
        if isinstance(error, PermissionError) or status in (401, 403):
            return UserError(
                f"{what}: access denied, or unknown credentials; check the account's rights, or "
                f"{self._scheme.login}"
            )
        if isinstance(error, FileNotFoundError):
            return UserError(f"{what}: no such file, folder or bucket; check the path")
        if "FlexibleChecksum" in name:
            return TransientError(f"{what}: altered on the way here; check the network and proxies")
        if _is_transient(error):
            return TransientError(
                f"{what}: {self._name} storage cannot be reached, or fails for now ({name}); "
                "check the network, and try later: the same command resumes"
            )
        number = status or getattr(error, "errno", None)
        return UserError(
            f"{what}: the storage refuses it ({name}{f', {number}' if number else ''}); check the "
            f"path, or {self._scheme.login}"
        )


def _files_below(files: Any, root: str, deep: bool) -> Iterator[str]:
    """Paths of the files in the folder `root`, which ends with a slash, and below it if `deep`.

    `find` of fsspec would hold what is known of all of them, about 1 kB each.
    """
    if not hasattr(files, "call_s3"):
        for folder, _, names in files.walk(root, maxdepth=None if deep else 1, on_error="raise"):
            yield from (f"{folder.rstrip('/')}/{name}" for name in names)
        return
    # A folder of S3 may hold millions of files, and s3fs lists one as a whole.
    bucket, _, prefix = root.partition("/")
    query = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "" if deep else "/"}
    while True:
        page = files.call_s3("list_objects_v2", **query)
        yield from (f"{bucket}/{entry['Key']}" for entry in page.get("Contents", []))
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def _unlike_starts(path: str, short: str) -> tuple[str, str]:
    """What a path, and the path as its backend shortens it, begin with before they are the same.

    >>> _unlike_starts("s3://bucket/a", "bucket/a"), _unlike_starts("hdfs://host/a", "/a")
    (('s3://', ''), ('hdfs://host', ''))
    """
    length = 0
    while path[-length - 1 :] == short[-length - 1 :] and length < len(short):
        length += 1
    return path[: len(path) - length], short[: len(short) - length]


def _is_file(entry: dict[str, Any]) -> bool:
    return entry["type"] == "file"


def _reason(error: Exception) -> Exception:
    """The error that made a web page "not found": fsspec says so of whatever went wrong."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    return cause if _is_transient(cause) or _status(cause) in (401, 403) else error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of the answer that `error`, or what caused it, is about."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        answer = getattr(error, "response", None)  # of botocore
        if isinstance(answer, dict):
            return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        error = error.__cause__
    return None


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_NUMBERS:
        return True
    if _status(error) in _TRANSIENT_STATUSES:
        return True
    return any(part in type(error).__name__ for part in _TRANSIENT_NAMES)

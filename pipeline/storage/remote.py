"""Files of any storage that an fsspec backend serves: s3://, az://, hdfs://, https:// …

https://filesystem-spec.readthedocs.io. A backend is imported when a path of its scheme is first
used. Listings are never cached: another process may have written meanwhile.
"""

import contextlib
import errno
import functools
import io
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from pipeline.errors import Conflict, TransientError, UserError
from pipeline.storage.local import TEMPORARY_SUFFIX
from pipeline.storage.protocol import Log
from pipeline.storage.transfer import GrowingObject, RecentCopies, View, on_disk

SMALL_BYTES = 1 << 20  # below this, files are read into memory
RECENT_BYTES = 1 << 30  # disk for the files that were read last


class Backend(NamedTuple):
    """What must be known of a scheme beside the fsspec backend that serves it.

    Attributes:
      extra: of this package, which installs the backend; None: nothing is missing.
      whole: a file appears when its upload ends; elsewhere it is written under another name first.
      conditional: a write can be refused where there is a file already.
      writable: whether there is any writing.
      login: how a person gets credentials.
    """

    extra: str | None = None
    whole: bool = False
    conditional: bool = False
    writable: bool = True
    login: str = "see the documentation of its fsspec backend"


_S3 = Backend(
    "s3",
    whole=True,
    conditional=True,
    login="run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
)
_AZURE = Backend(
    "azure",
    whole=True,
    login="run `az login`, or set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
)
_HTTP = Backend("http", writable=False, login="give a URL that needs none")
# Other schemes that fsspec knows work as well, with what Backend assumes.
BACKENDS = {
    "s3": _S3,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "hdfs": Backend(login="run `kinit`, and set HADOOP_HOME and CLASSPATH"),
    "http": _HTTP,
    "https": _HTTP,
}
# Errors that may be others the next time. Backends tell them by number, or by the names of classes
# that are not to be imported here.
_TRANSIENT_NUMBERS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.EAGAIN}
_UNREACHABLE = ("Connect", "Timeout", "ServerDisconnected", "IncompleteRead", "ResponseParser")
_CREDENTIALS = ("Credential", "TokenRetrieval", "ClientAuthentication", "ProfileNotFound")


class RemoteFiles:
    """The files of all paths of one scheme."""

    def __init__(self, scheme: str, clock: Callable[[], float] = time.monotonic):
        """Connects when a path is first used."""
        self._scheme, self._clock = scheme, clock
        self._backend = BACKENDS.get(scheme, Backend())
        self._recent = RecentCopies(RECENT_BYTES)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        if not self._backend.writable:
            return False  # a web server tells nobody what it has
        found = self._find(path)
        if found is not None:
            return found["type"] == "directory"
        return bool(self._list(path))

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
        return [self._full(path) for path in found if asks_hidden or "/." not in path]

    def walk(self, folder: str, deep: bool) -> Iterator[str]:
        with self._explained(folder, "list"):
            files, short = self._at(folder)
            root = short.rstrip("/") + "/"
            found = files.find(root, maxdepth=None if deep else 1)
        for path in found:
            name = path.removeprefix(root)
            if not any(part == "" or part[0] == "." for part in name.split("/")):
                yield name

    @contextlib.contextmanager
    def open_read(self, path: str) -> Iterator[BinaryIO]:
        """A file opened for reading: in memory, or a copy on disk, which may be kept a while."""
        with self._explained(path, "read"):
            files, short = self._at(path)
            found = files.info(short)
        size = found.get("size")
        if size is not None and size < SMALL_BYTES:
            opened: BinaryIO = io.BytesIO(self.read_bytes(path))
        else:
            # A file that is written anew has another version, or at least another time.
            version = [found.get(name) for name in ("ETag", "etag", "LastModified", "mtime")]
            key = (path, size, str(version))
            file = self._recent.get(key, size or 0, functools.partial(self.copy_to_disk, path))
            opened = io.BufferedReader(View(file, os.fstat(file.fileno()).st_size))
        with opened:
            yield opened

    def read_bytes(self, path: str) -> bytes:
        with self._explained(path, "read"):
            files, short = self._at(path)
            return files.cat_file(short)

    def copy_to_disk(self, path: str, target: str) -> None:
        with self._explained(path, "read"):
            files, short = self._at(path)
            files.get_file(short, target)

    @contextlib.contextmanager
    def publish(self, path: str) -> Iterator[BinaryIO]:
        self._refuse_writing(path)
        with on_disk(), tempfile.NamedTemporaryFile() as file:
            yield file  # type: ignore[misc]
            file.flush()
            with self._explained(path, "write"):
                self._upload(file.name, path)

    def write_once(self, path: str, data: bytes) -> None:
        self._refuse_writing(path)
        if not self._backend.conditional:
            with self.publish(path) as file:
                file.write(data)
            return
        with self._explained(path, "write"):
            files, short = self._at(path)
            try:
                files.pipe_file(short, data, mode="create")
            except FileExistsError:
                # The answer to a write that worked may have been lost: then the file is ours.
                if self.read_bytes(path) != data:
                    raise Conflict(
                        f"{path}: cannot write: another writer was faster, and what it published "
                        "stays; let one job at a time write there, or give another --output"
                    ) from None

    def open_log(self, path: str, text: bytes) -> Log:
        return GrowingObject(functools.partial(self.publish, path), text, self._clock)

    def make_folder(self, path: str) -> None:
        self._refuse_writing(path)
        if not self._backend.whole:  # object stores have no folders
            with self._explained(path, "write"):
                files, short = self._at(path)
                files.makedirs(short, exist_ok=True)

    def remove(self, path: str) -> None:
        self._refuse_writing(path)
        with self._explained(path, "remove"), contextlib.suppress(FileNotFoundError):
            files, short = self._at(path)
            files.rm(short, recursive=True)

    def _at(self, path: str) -> tuple[Any, str]:
        """The fsspec file system of `path`, and the path as it takes it.

        Hosts come from the path, other settings from the environment; fsspec keeps file systems.
        """
        import fsspec.core

        return fsspec.core.url_to_fs(path, use_listings_cache=False)

    def _full(self, path: str) -> str:
        return path if "://" in path else f"{self._scheme}://{path.lstrip('/')}"

    def _find(self, path: str) -> dict[str, Any] | None:
        """What is known of a file or folder; None where there is none."""
        with self._explained(path, "read"):
            files, short = self._at(path)
            try:
                return files.info(short)
            except FileNotFoundError:
                return None

    def _list(self, folder: str) -> list[dict[str, Any]]:
        with self._explained(folder, "list"):
            files, short = self._at(folder)
            try:
                return files.ls(short, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _entries(self, folder: str) -> dict[str, dict[str, Any]]:
        """Files and folders in `folder`, by name."""
        found = {entry["name"].rstrip("/"): entry for entry in self._list(folder)}
        # Some stores keep an empty object where a folder is to be.
        own = [name for name in found if folder.rstrip("/").endswith(name)]
        return {n.rpartition("/")[2]: entry for n, entry in found.items() if n not in own}

    def _upload(self, source: str, path: str) -> None:
        files, target = self._at(path)
        if self._backend.whole:
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
        if not self._backend.writable:
            raise UserError(
                f"{path}: {self._scheme}:// paths can only be read; give a folder to write to"
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
            raise self._meaning(error, f"{path}: cannot {verb}") from error

    def _meaning(self, error: Exception, what: str) -> UserError:
        name = type(error).__name__
        if isinstance(error, ImportError):
            extra = self._backend.extra
            remedy = (
                f"pip install 'kmeans-job[{extra}]' (in a checkout: pip install '.[{extra}]')"
                if extra
                else "install the fsspec backend for it"
            )
            return UserError(f"{what}: what reads {self._scheme}:// is not installed; {remedy}")
        if any(part in name for part in _CREDENTIALS):
            return UserError(f"{what}: no credentials that work; {self._backend.login}")
        if isinstance(error, PermissionError):
            return UserError(
                f"{what}: access denied, or unknown credentials; check the account's rights, or "
                f"{self._backend.login}"
            )
        if isinstance(error, FileNotFoundError):
            return UserError(f"{what}: no such file, folder or bucket; check the path")
        if _is_transient(error):
            return TransientError(
                f"{what}: {self._scheme} storage cannot be reached, or fails for now ({name}); "
                "check the network, and try later: the same command resumes"
            )
        status = getattr(error, "status", None) or getattr(error, "errno", None)
        return UserError(
            f"{what}: the storage refuses it ({name}{f', {status}' if status else ''}); check the "
            "path and its settings"
        )


def _is_file(entry: dict[str, Any]) -> bool:
    return entry["type"] == "file"


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_NUMBERS:
        return True
    if (getattr(error, "status", None) or 0) in (408, 429, 500, 502, 503, 504):
        return True
    return any(part in type(error).__name__ for part in _UNREACHABLE)

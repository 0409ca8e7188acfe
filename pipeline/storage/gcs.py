"""Objects of Google Cloud Storage, by gs:// paths.

A bucket has no folders: what lies in one are the objects whose names begin with the folder's and a
slash. An object appears whole, when its upload is complete. CRC-32C checksums are compared in both
directions: by the server for an upload, here for a download.
"""

import contextlib
import fnmatch
import functools
import glob
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from pipeline.errors import TransientError, UserError
from pipeline.storage import local
from pipeline.storage.gcs_client import TIMEOUT_SECONDS, RetryPolicy, connect, explained
from pipeline.storage.transfer import (
    REQUESTS,
    SMALL_BYTES,
    GrowingObject,
    RecentCopies,
    View,
    crc32c,
    is_seen,
    temporary_files,
)

PART_BYTES = 8 << 20  # larger uploads are sent in parts of this size; a multiple of 256 KiB
TRIES = 3  # of a transfer that does not arrive as it was sent
RESTARTED = {400, 410}  # statuses of an upload: a wrong checksum; a session the server forgot
BUCKET = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")


class Objects:
    """The objects of all buckets; one client, which threads may share."""

    def __init__(
        self,
        connect: Callable[[], Any] = connect,
        make_retry: Callable[[], RetryPolicy] = RetryPolicy,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes what is needed to connect when a path is first used.

        Args:
          connect: makes a `google.cloud.storage.Client`.
          make_retry: makes the policy for requests that fail.
          clock: seconds, for the logs.
        """
        self._connect, self._make_retry, self._clock = connect, make_retry, clock
        self._recent = RecentCopies()

    @functools.cached_property
    def _client(self) -> Any:
        return self._connect()

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        """Parameters of every request."""
        return {"retry": self._make_retry(), "timeout": TIMEOUT_SECONDS}

    def exists(self, path: str) -> bool:
        """Whether there is an object or a folder at `path`."""
        bucket, name = split(path)
        with self._explained(path, "read"):
            return bool(name and self._find(bucket, name)) or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        """Whether anything lies below `path`; a bucket is a folder even if it is empty."""
        bucket, name = split(path)
        with self._explained(path, "read"):
            found = self._list(bucket, _prefix(name), max_results=1)
            return bool(list(found)) or not name

    def list_names(self, folder: str) -> list[str]:
        """Names of the objects and folders in `folder`, sorted."""
        sizes, folders = self._entries(folder)
        return sorted({*sizes, *folders})

    def file_sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of each object in `folder`."""
        return self._entries(folder)[0]

    def folders(self, path: str) -> list[str]:
        """Names of the folders in `path`, sorted, without hidden ones."""
        return sorted(name for name in self._entries(path)[1] if not name.startswith("."))

    def matching(self, pattern: str) -> Iterator[str]:
        """Paths that a glob matches."""
        bucket, name = split(pattern)
        return self._matching(f"gs://{bucket}", name.split("/"))

    def walk(self, folder: str, deep: bool, hidden: bool = False) -> Iterator[str]:
        """Objects in `folder` and, if `deep`, below it, without hidden ones unless asked for."""
        bucket, name = split(folder)
        with self._explained(folder, "list"):
            listed = self._list(bucket, _prefix(name), delimiter=None if deep else "/")
            for blob in listed:
                found = blob.name.removeprefix(_prefix(name))
                if is_seen(found, hidden):
                    yield found
        if hidden and not deep:  # the folders are known once all was listed
            for path in sorted(listed.prefixes):
                if (below := path.removeprefix(_prefix(name))).startswith("."):
                    found_there = self.walk(f"gs://{bucket}/{path}", True, hidden)
                    yield from (f"{below}{each}" for each in found_there)

    def read_bytes(self, path: str) -> bytes:
        """A whole object."""
        file = io.BytesIO()
        self._download(path, self._blob(path), file)
        return file.getvalue()

    @contextlib.contextmanager
    def open_read(self, path: str) -> Iterator[BinaryIO]:
        """Opens an object for reading: in memory, or a copy on disk that later calls reuse."""
        bucket, name = split(path)
        with self._explained(path, "read"):
            blob = self._find(bucket, name)
        if blob is None or blob.size < SMALL_BYTES:
            opened: BinaryIO = io.BytesIO(self.read_bytes(path))
        else:
            download = functools.partial(self._copy, path, blob)
            file = self._recent.get((path, blob.generation), download)
            opened = io.BufferedReader(View(file))
        with opened:
            yield opened

    def copy_to_disk(self, path: str, target: str) -> None:
        """Copies an object to the local path `target`."""
        with local.explained(target, "write"):
            self._copy(path, self._blob(path), target)

    @contextlib.contextmanager
    def publish(self, path: str) -> Iterator[BinaryIO]:
        """A file to write, which becomes an object when the block ends without an exception."""
        file: Any
        with temporary_files(), tempfile.SpooledTemporaryFile(PART_BYTES) as file:
            yield file
            with self._explained(path, "write"):
                self._upload(path, file)

    def write_once(self, path: str, *data: bytes | memoryview) -> None:
        """Makes an object of `data`, unless another has made one there that is not the same."""
        with self._explained(path, "write"):
            self._upload(path, io.BytesIO(b"".join(data)), only_new=True)

    def open_log(self, path: str, text: bytes) -> GrowingObject:
        """An object that begins with `text` and is made anew as it grows."""
        return GrowingObject(functools.partial(self.publish, path), text, self._clock)

    def make_folder(self, path: str) -> None:
        """Nothing: a folder is there as soon as something lies in it."""

    def remove(self, path: str) -> None:
        """Removes an object, and all that lies below it if it is a folder."""
        bucket, name = split(path)
        with self._explained(path, "remove"), ThreadPoolExecutor(REQUESTS) as pool:
            below = (blob.name for blob in self._list(bucket, _prefix(name)))
            list(pool.map(functools.partial(self._remove, bucket), below))
            self._remove(bucket, name)

    def _remove(self, bucket: str, name: str) -> None:
        from google.api_core.exceptions import NotFound

        blob = self._client.bucket(bucket).blob(name)
        with contextlib.suppress(NotFound):
            blob.delete(**self._options)

    def _list(self, bucket: str, prefix: str, **options: Any) -> Any:
        """An iterator over the objects whose names begin with `prefix`; pages come as needed."""
        return self._client.list_blobs(bucket, prefix=prefix or None, **self._options, **options)

    def _entries(self, folder: str) -> tuple[dict[str, int], set[str]]:
        """Sizes of the objects in `folder`, and the names of the folders in it."""
        bucket, name = split(folder)
        start = len(_prefix(name))
        with self._explained(folder, "list"):
            found = self._list(bucket, _prefix(name), delimiter="/")
            sizes = {blob.name[start:]: blob.size for blob in found}
            folders = {path[start:-1] for path in found.prefixes}
        sizes.pop("", None)  # what some tools put where a folder is to be
        return sizes, folders

    def _matching(self, folder: str, parts: list[str]) -> Iterator[str]:
        """Paths in `folder` whose names match `parts`, one part for each level."""
        part, *rest = parts
        if part == "**":
            yield from self._matching(folder, rest or ["*"])
            for name in self.folders(folder):
                yield from self._matching(f"{folder}/{name}", parts)
            return
        if glob.has_magic(part):
            names = fnmatch.filter(self.list_names(folder), part)
            found: Iterable[str] = (n for n in names if not n.startswith(".") or part[0] == ".")
        else:
            found = [part] if rest or self.exists(f"{folder}/{part}") else []
        for name in found:
            path = f"{folder}/{name}"
            yield from self._matching(path, rest) if rest else [path]

    def _find(self, bucket: str, name: str) -> Any:
        """What is known of an object; None where there is none."""
        return self._client.bucket(bucket).get_blob(name, **self._options)

    def _blob(self, path: str) -> Any:
        bucket, name = split(path)
        with self._explained(path, "read"):
            return self._client.bucket(bucket).blob(name)

    def _copy(self, path: str, blob: Any, target: str) -> None:
        with open(target, "w+b") as file:
            self._download(path, blob, file)

    def _download(self, path: str, blob: Any, file: Any) -> None:
        """Writes the bytes of an object to `file` as they are stored.

        The checksum is compared here: the library does not once it had to resume a download
        (`_write_to_stream` leaves out answers with status 206), and does not try again either.
        """
        for _ in range(TRIES):
            file.seek(0)
            file.truncate()
            with self._explained(path, "read"):
                blob.download_to_file(file, raw_download=True, checksum=None, **self._options)
            found = crc32c(file)
            if blob.crc32c in (None, found):
                return
        raise TransientError(
            f"{path}: altered on the way here {TRIES} times (crc32c {found} instead of "
            f"{blob.crc32c}); check the network and proxies"
        )

    def _upload(self, path: str, file: BinaryIO, only_new: bool = False) -> None:
        """Makes an object of `file`.

        The checksum goes with the first request, so that the server refuses what arrives altered
        before others see it. The library's own check of uploads in parts compares the finished
        object, and on a mismatch removes whatever lies there by then (`_do_resumable_upload`).
        """
        from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed

        bucket, name = split(path)
        checksum, size = crc32c(file), file.tell()
        for _ in range(TRIES):
            blob = self._client.bucket(bucket).blob(name, chunk_size=PART_BYTES)
            blob.crc32c = checksum
            try:
                blob.upload_from_file(
                    file,
                    rewind=True,
                    size=size,
                    if_generation_match=0 if only_new else None,
                    checksum=None,
                    **self._options,
                )
            except PreconditionFailed:
                # The answer to an upload that worked may have been lost: then the object is ours.
                there = self._find(bucket, name)
                if there is None or (there.size, there.crc32c) != (size, checksum):
                    raise
                return
            except (GoogleAPICallError, ValueError) as error:
                # ValueError: the server kept only the beginning of a part, as it may. The library
                # takes note, but does not rewind the file (`get_next_chunk`).
                if getattr(error, "code", 400) not in RESTARTED:
                    raise
                continue
            if blob.crc32c == checksum:
                return
        raise TransientError(
            f"{path}: refused {TRIES} times as altered on the way there (crc32c {checksum} here); "
            "check the network and proxies"
        )

    def _explained(self, path: str, verb: str) -> contextlib.AbstractContextManager[None]:
        """Translates errors raised inside the block into messages about `path`."""
        return explained(path, verb, lambda: self._missing_bucket(path))

    def _missing_bucket(self, path: str) -> str | None:
        """The name of the bucket in `path`, if that bucket does not exist.

        Asked by a listing, since `Bucket.exists` needs a role that `objectUser` does not include.
        """
        from google.api_core.exceptions import GoogleAPIError, NotFound

        bucket, _ = split(path)
        try:
            list(self._list(bucket, "", max_results=1))
        except NotFound:
            return bucket
        except GoogleAPIError:
            pass
        return None


def split(path: str) -> tuple[str, str]:
    """Splits gs://BUCKET/NAME into bucket and name; the name is empty for a bucket.

    Raises:
      UserError: no bucket can have this name.
    """
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise UserError(f"{path}: {bucket!r} is no name of a bucket; paths are gs://BUCKET/NAME")
    return bucket, name.strip("/")


def _prefix(name: str) -> str:
    """The text that the names of all objects in the folder `name` begin with."""
    return f"{name}/" if name else ""

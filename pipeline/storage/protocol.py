"""What a storage must be able to do."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol


class Log(Protocol):
    """A file that grows."""

    def write(self, data: bytes, /) -> Any:
        """Appends `data`."""
        ...

    def flush(self) -> Any:
        """Makes all that was written visible to other readers."""
        ...

    def close(self) -> Any:
        """Flushes, and ends the writing."""
        ...


class Storage(Protocol):
    """Files of one kind of storage, by their paths.

    What the storage refuses is a UserError that names the path, the reason and the remedy; a
    TransientError where the same request may succeed later.
    """

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder at `path`."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether `path` is a folder; where storages have none, whether anything lies below it."""
        ...

    def list_names(self, folder: str) -> list[str]:
        """Names in `folder`, sorted; empty where there is no such folder."""
        ...

    def file_sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of each file in `folder`; empty where there is no such folder."""
        ...

    def folders(self, path: str) -> list[str]:
        """Names of the folders in `path`, sorted, without hidden ones."""
        ...

    def matching(self, pattern: str) -> Iterator[str] | list[str]:
        """Paths that a glob matches, in any order; ** stands for any folders."""
        ...

    def walk(self, folder: str, deep: bool, hidden: bool = False) -> Iterator[str]:
        """Relative paths of the files in `folder` and, if `deep`, below it, without hidden ones.

        With `hidden`, also of those, and of all files in hidden folders, even if not `deep`.
        """
        ...

    def open_read(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file opened for reading bytes, with `seek`."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """A whole file."""
        ...

    def copy_to_disk(self, path: str, target: str) -> None:
        """Copies a file to the local path `target`."""
        ...

    def publish(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write; it appears at `path` whole, when the block ends, or not at all."""
        ...

    def write_once(self, path: str, *data: bytes | memoryview) -> None:
        """Publishes `data`, joined, at `path`; a Conflict if another has published other bytes.

        Storages without conditional writes let the last writer win.
        """
        ...

    def open_log(self, path: str, text: bytes) -> Log:
        """A file that begins with `text` and grows."""
        ...

    def make_folder(self, path: str) -> None:
        """Makes a folder and those above it, where a storage has folders."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file, or a folder with all that is in it; nothing where there is none."""
        ...

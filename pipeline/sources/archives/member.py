"""A file in an archive, as the modules of both kinds of archives give it."""

from collections.abc import Callable
from typing import NamedTuple


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
      name: its path within the archive.
      start: an offset from which the archive can be read so that this is the first file.
      read: reads its content; raises ValueError if the archive is damaged there.
    """

    name: str
    start: int
    read: Callable[[], bytes]


class NoFile(NamedTuple):
    """An entry of an archive that stands for a file which cannot be read, and why.

    Attributes:
      name, start: as of Member.
    """

    name: str
    start: int
    reason: str

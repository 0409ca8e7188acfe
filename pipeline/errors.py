"""Exceptions whose message alone tells a person what to do, and how they come back from engines.

A UserError is the fault of the input, an option or the storage; a JobError is nobody's fault.
"""

import contextlib
import re
from collections.abc import Iterator

MAX_CHARACTERS = 2_000  # of a message: names in a bucket may be very long
# What Beam appends to the text of an exception.
_STEP = r" \[while running [^\n]*"
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+:[^\s/@]+@", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"(\bhttps?://[^\s?]+)\?[^\s:;,]+", re.IGNORECASE)


class UserError(Exception):
    """Something that the user can put right.

    The message says in one line what is wrong (the value), where (file, shard, flag) and what to
    do. The command line prints it without a traceback and ends with exit status 2.
    """

    def __init__(self, message: str):
        super().__init__(_shortened("".join(map(_printable, _without_secrets(message)))))


class TransientError(UserError):
    """The storage failed in a way that may pass: the same read or write is worth another try."""


class Conflict(UserError):
    """Another writer has meanwhile published what only one may publish."""


class JobError(Exception):
    """Why the job cannot go on, in one line, though nothing is wrong with what the user gave.

    The command line prints it without a traceback and ends with `status`.
    """

    status = 1


@contextlib.contextmanager
def decoding(where: str, kind: str) -> Iterator[None]:
    """Translates whatever a decoder of foreign files raises into one line about `where`.

    Decoders raise anything when a file is damaged, encrypted or odd: no list of their exceptions
    is complete. Keep the block small, because mistakes of our own are translated as well.

    Args:
      where: the file, and the member or record of it.
      kind: what the file should be, as in "damaged or not an npz file".

    Raises:
      UserError: the decoder raised. Errors of the file system and of this project pass unchanged.
    """
    try:
        yield
    except (UserError, JobError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{where}: damaged or not {kind} ({text}); make it again") from error


def install_hint(extra: str) -> str:
    """Says how to install an extra of this package, installed or run from a checkout."""
    return f"pip install 'kmeans-job[{extra}]' (in a checkout: pip install '.[{extra}]')"


def from_engine(error: Exception) -> UserError | None:
    """Finds the UserError behind what a Beam engine raised; None if it was another exception.

    Some engines raise the exception of a worker again, some add to its text, some hand it back as
    a printed traceback.
    """
    if isinstance(error, UserError):
        return UserError(re.sub(rf"{_STEP}$", "", str(error)))
    return from_traceback(str(error))


def from_traceback(text: str) -> UserError | None:
    """Finds the UserError at the end of a printed traceback; None if it ends with another."""
    kinds: list[type[UserError]] = [UserError, *UserError.__subclasses__()]
    names = "|".join(kind.__name__ for kind in kinds)
    found = re.findall(rf"^{__name__}\.(?:{names}): (.*?)(?:{_STEP})?$", text, re.MULTILINE)
    return UserError(found[-1]) if found else None


def _without_secrets(text: str) -> str:
    """Leaves out of URLs what lets their reader in: a password, or a query with a signature."""
    return _SECRET_QUERY.sub(r"\1?…", _PASSWORD.sub(r"\1…@", text))


def _printable(character: str) -> str:
    """Returns a character, or its escape sequence if it might control a terminal."""
    if "\udc80" <= character <= "\udcff":  # a byte of a path that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else repr(character)[1:-1]


def _shortened(text: str) -> str:
    """Leaves out the middle of a long text: the ends say what is wrong and what to do."""
    half = MAX_CHARACTERS // 2
    return text if len(text) <= MAX_CHARACTERS else f"{text[: half - 1]} … {text[-half:]}"

"""The exceptions that mean: the user's input, options or storage are at fault."""

import re

_WHERE = r" \[while running [^\n]*"  # what Beam appends


_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+:[^\s/@]+@", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"(\bhttps?://[^\s?]+)\?[^\s:;,]+", re.IGNORECASE)
MAX_CHARACTERS = 2_000  # of a message: a name in a bucket may be very long


class UserError(Exception):
    """What was wrong (the value), where (file, shard, flag) and what to do, in one line.

    The command line prints it without a traceback and ends with exit status 2.
    """

    def __init__(self, message: str):
        # Names of files and objects may hold anything, even what a terminal obeys; a URL may hold
        # a password, or a signature that lets its reader in.
        message = _SECRET_QUERY.sub(r"\1?…", _PASSWORD.sub(r"\1…@", message))
        super().__init__(_bounded("".join(map(_printable, message))))


class TransientError(UserError):
    """The storage failed in a way that may pass: the same read or write is worth another try."""


class Conflict(UserError):
    """Another writer has published meanwhile what only one may publish."""


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _bounded(text: str) -> str:
    """`text` without its middle, if it is too long: its ends say what is wrong and what to do."""
    half = MAX_CHARACTERS // 2
    return text if len(text) <= MAX_CHARACTERS else f"{text[: half - 1]} … {text[-half:]}"


def from_engine(error: Exception) -> UserError | None:
    """The UserError behind what a Beam engine raised, or None if it was another exception.

    Engines raise a worker's exception again, add to its text, or hand it back as a traceback.
    """
    if isinstance(error, UserError):
        return UserError(re.sub(rf"{_WHERE}$", "", str(error)))
    return from_traceback(str(error))


class JobError(Exception):
    """Why the job cannot go on though the user's input is not at fault, in one line.

    The command line prints it without a traceback and ends with `status`.
    """

    status = 1


def from_traceback(text: str) -> UserError | None:
    """The UserError at the end of a printed traceback, or None if another exception ended it."""
    found = re.findall(
        rf"^pipeline\.errors\.(?:UserError|TransientError|Conflict): (.*?)(?:{_WHERE})?$",
        text,
        re.MULTILINE,
    )
    return UserError(found[-1]) if found else None

"""The exceptions that mean: the user's input, options or storage are at fault."""

import re

_WHERE = r" \[while running [^\n]*"  # what Beam appends


class UserError(Exception):
    """What was wrong (the value), where (file, shard, flag) and what to do, in one line.

    The command line prints it without a traceback and ends with exit status 2.
    """

    def __init__(self, message: str):
        super().__init__(message.replace("\n", "\\n"))


class Refused(UserError):
    """The storage failed in a way that may pass: the same read or write is worth another try."""


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
        rf"^pipeline\.errors\.(?:UserError|Refused): (.*?)(?:{_WHERE})?$", text, re.MULTILINE
    )
    return UserError(found[-1]) if found else None

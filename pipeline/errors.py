"""The exceptions that mean: the user's input, options or storage are at fault."""

import re


class UserError(Exception):
    """What was wrong (the value), where (file, shard, flag) and what to do, in one line.

    The command line prints it without a traceback and ends with exit status 2.
    """

    def __init__(self, message: str):
        super().__init__(message.replace("\n", "\\n"))


class Refused(UserError):
    """The storage failed in a way that may pass: the same read or write is worth another try."""


def from_traceback(text: str) -> UserError | None:
    """The UserError at the end of a printed traceback, or None if another exception ended it.

    Beam's engines hand a worker's exception back as text.
    """
    found = re.findall(
        r"^pipeline\.errors\.(?:UserError|Refused): (.*?)(?: \[while running [^\n]*)?$",
        text,
        re.MULTILINE,
    )
    return UserError(found[-1]) if found else None

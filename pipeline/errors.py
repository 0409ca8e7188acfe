"""The one exception that means: the user's input or options are at fault."""

import re


class UserError(Exception):
    """What was wrong (the value), where (file, shard, flag) and what to do, in one line.

    The command line prints it without a traceback and ends with exit status 2.
    """


class JobError(Exception):
    """Why the job cannot go on though the user's input is not at fault, in one line.

    The command line prints it without a traceback and ends with `status`.
    """

    status = 1


def from_traceback(text: str) -> UserError | None:
    """The UserError at the end of a printed traceback, or None if another exception ended it.

    Beam's engines hand a worker's exception back as text.
    """
    found = re.findall(
        r"^pipeline\.errors\.UserError: (.*?)(?: \[while running [^\n]*)?$", text, re.MULTILINE
    )
    return UserError(found[-1]) if found else None

"""The one exception that means: the user's input or options are at fault."""


class UserError(Exception):
    """What was wrong (the value), where (file, shard, flag) and what to do, in one line.

    The command line prints it without a traceback and ends with exit status 2.
    """

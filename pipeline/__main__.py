"""`python -m pipeline`: the command `shard`, in a process of its own."""

import sys

from pipeline import interrupts


def main() -> int:
    """Runs `shard` with the process's arguments; the exit status."""
    interrupts.install()  # before the imports, which take a while
    from pipeline import cli

    interrupts.at_work()
    return interrupts.finish(cli.main())


if __name__ == "__main__":
    sys.exit(main())

"""`kmeans-job` and `python -m job`: the command line, in a process of its own."""

import sys

from pipeline import interrupts


def main() -> int:
    """Runs the command that the process's arguments name; the exit status."""
    interrupts.install()  # before the imports, which take a while
    from job import cli

    interrupts.at_work()
    return interrupts.finish(cli.main())


if __name__ == "__main__":
    sys.exit(main())

"""Where `kmeans-job` and `python -m job` begin."""

from collections.abc import Callable

from pipeline import interrupts


def main() -> int:
    """Runs the command that the process's arguments name; the exit status."""
    return interrupts.run(_command_line)


def _command_line() -> Callable[[], int]:
    from job.cli import main

    return main

"""A command's streams never fail it; what they cannot take is dropped or escaped."""

import subprocess
import sys

import jobs
import pytest

CODE = """
import sys
from pipeline import streams
with streams.forgiving():
    print("caf\\xe9 \\udcff")
    print("told", file=sys.stderr)
    for _ in range(10_000):
        print("more than a pipe holds")
sys.exit(7)
"""


@pytest.mark.parametrize(
    "shell",
    [
        '"$@" | true',
        '"$@" >/dev/full',
        '"$@" >/dev/null 2>/dev/full',
        '"$@" >/dev/null 2>&-',
        '"$@" >&- 2>&- <&-',
        'PYTHONIOENCODING=ascii "$@" >/dev/null',
    ],
)
def test_the_status_is_the_commands(shell):
    script = f"set -o pipefail; {shell}"
    arguments = ["bash", "-c", script, "bash", sys.executable, "-c", CODE]
    done = subprocess.run(arguments, cwd=jobs.ROOT, capture_output=True, timeout=60)
    assert done.returncode == 7
    assert done.stderr in (b"", b"told\n")


def test_what_a_terminal_cannot_show_is_escaped():
    done = subprocess.run(
        ["env", "PYTHONIOENCODING=ascii", sys.executable, "-c", CODE],
        cwd=jobs.ROOT,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[0] == rb"caf\xe9 \udcff"

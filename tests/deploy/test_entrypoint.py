"""Where containers of the image begin, run with stand-ins for Beam's boot and for the command."""

import os
import subprocess

import pytest
from jobs import ROOT

BEAM = ["--id=1-1", "--logging_endpoint=localhost:1", "--provision_endpoint=localhost:2"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with programs that print their name and their arguments."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("boot", "kmeans-job"):
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (BEAM, ["boot", *BEAM]),
        (["--worker_pool"], ["boot", "--worker_pool"]),
        (["kmeans-job", "fit", "--k", "1 0"], ["kmeans-job", "fit", "--k", "1 0"]),
        (["fit", "--k", "1 0"], ["kmeans-job", "fit", "--k", "1 0"]),
        (["export", "--run", "a*"], ["kmeans-job", "export", "--run", "a*"]),
        ([], ["kmeans-job", "--help"]),
        (["--version"], ["kmeans-job", "--version"]),
        (["sh", "-c", "echo done"], ["done"]),
    ],
)
def test_beam_alone_starts_with_flags(programs, arguments, started):
    done = subprocess.run(
        ["sh", ROOT / "deploy" / "entrypoint.sh", *arguments],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "BEAM_BOOT": f"{programs / 'boot'}",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == started

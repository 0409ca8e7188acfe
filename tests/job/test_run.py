"""The command `run` as it is installed, wherever it is called from and whatever goes wrong."""

import os
import subprocess
import sys

import jobs
import pytest

# What pip installs as the command: unlike `python -m job` it imports nothing from the current
# folder.
INSTALLED = "import sys\nfrom job.start import main\nsys.exit(main())\n"


@pytest.fixture
def run(tmp_path):
    """Calls the command `run` from a folder of the user's own."""
    (script := tmp_path / "kmeans-job").write_text(INSTALLED)
    (here := tmp_path / "here").mkdir()

    def call(spec: str, output: str) -> subprocess.CompletedProcess:
        options = ["--input", spec, "--k", "3", "--output", output, "--quiet"]
        return subprocess.run(
            [sys.executable, script, "run", *options],
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(jobs.ROOT)},
            capture_output=True,
            text=True,
            timeout=jobs.PATIENCE_SECONDS,
        )

    return call


def test_files_of_the_user_are_not_imported(run, tmp_path):
    names = ("pipeline", "job", "proto", "socket", "selectors", "pickle", "json", "numpy", "keras")
    for name in names:
        (tmp_path / "here" / f"{name}.py").write_text("raise RuntimeError('mine')")
    done = run("digits", "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    jobs.check_whole(tmp_path / "here" / "out")


def test_a_missing_input_is_one_line_and_nothing_else(run):
    done = run("missing.npz", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kmeans-job: error: --input missing.npz: no such file")
    assert done.stderr.count("\n") == 1

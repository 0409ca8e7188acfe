"""How long the main job takes beside its imports: python benchmarks/startup.py [--runs 3].

`kmeans-job run` on MNIST with 10 clusters, from nothing to the report, against a process that only
imports TensorFlow and Beam one after the other. Both are fresh processes, in turns, on the same
machine; of each the median counts. CPU seconds are those of the process and all it has started:
they tell more than the wall where the machine has other work to do.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.npz"
IMPORTS = [sys.executable, "-c", "import tensorflow; import apache_beam"]


class Seconds(NamedTuple):
    """What one process took, with all that it started."""

    wall: float
    cpu: float  # user and system


def measure(command: list[str]) -> Seconds:
    """Runs a command that must succeed."""
    # An installed package has its bytecode, as the libraries have theirs.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure_run(images: str, k: int) -> Seconds:
    """Runs the main job into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--input", images, "--k", str(k), "--output", folder, "--quiet"]
        return measure([sys.executable, "-m", "job", "run", *options])


def median(taken: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(column) for column in zip(*taken, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--input", default=str(MNIST))
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    if not Path(args.input).exists():
        raise SystemExit(f"{args.input}: not there; give another set with --input")
    measure(IMPORTS)  # files are in the system's cache from here on
    measure_run(args.input, args.k)
    imports, runs = [], []
    for _ in range(args.runs):
        imports.append(measure(IMPORTS))
        runs.append(measure_run(args.input, args.k))
        print(f"imports {imports[-1].wall:.2f} s, run {runs[-1].wall:.2f} s", flush=True)
    base, run = median(imports), median(runs)
    print("| | wall seconds | CPU seconds |\n|---|--:|--:|")
    print(f"| imports | {base.wall:.2f} | {base.cpu:.2f} |")
    print(f"| run | {run.wall:.2f} | {run.cpu:.2f} |")
    print(f"| ratio | {run.wall / base.wall:.2f} | {run.cpu / base.cpu:.2f} |")


if __name__ == "__main__":
    main()

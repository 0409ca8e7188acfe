"""How long the main job takes beside its imports: python benchmarks/startup.py [--runs 3].

`kmeans-job run` on MNIST with 10 clusters, from nothing to the report, against a process that only
imports TensorFlow and Beam one after the other. Both are fresh processes, in turns, on the same
machine; of each the median counts. CPU seconds are those of the process and all it has started:
they tell more than the wall where the machine has other work to do.

With --estimator: a fit of 10,000 images by `KMeans` in a fresh process, against one that only loads
these and imports TensorFlow. The start is all but the fit, as a second one in the process takes it.
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
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.npz"
IMPORTS = [sys.executable, "-c", "import tensorflow; import apache_beam"]
LOADING = """
import sys, time
import numpy as np
with np.load(sys.argv[1]) as file:
    images = file["x_train"][:10_000].reshape(10_000, -1)
"""
TENSORFLOW = LOADING + "import tensorflow"
ESTIMATOR = f"""{LOADING}
from kmeans_job import KMeans
for _ in range(2):
    wall, cpu = time.perf_counter(), time.process_time()
    KMeans(n_clusters=int(sys.argv[2])).fit(images)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


class Seconds(NamedTuple):
    """What one process took, with all that it started."""

    wall: float
    cpu: float  # user and system


def measure(command: list[str], output: IO[str] | None = None) -> Seconds:
    """Runs a command that must succeed, and may print to `output`."""
    # An installed package has its bytecode, as the libraries have theirs.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, env=environment, check=True, stdout=output, stderr=quiet)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure_run(images: str, k: int) -> Seconds:
    """Runs the main job into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--input", images, "--k", str(k), "--output", folder, "--quiet"]
        return measure([sys.executable, "-m", "job", "run", *options])


def measure_estimator(images: str, k: int) -> Seconds:
    """Starts the estimator: a process with two fits, without twice the time of the second."""
    with tempfile.TemporaryFile("w+") as output:
        both = measure([sys.executable, "-c", ESTIMATOR, images, str(k)], output)
        output.seek(0)
        second = Seconds(*map(float, output.read().split()))
    return Seconds(both.wall - 2 * second.wall, both.cpu - 2 * second.cpu)


def median(taken: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(column) for column in zip(*taken, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--input", default=str(MNIST))
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--estimator", action="store_true")
    args = parser.parse_args()
    if not Path(args.input).exists():
        raise SystemExit(f"{args.input}: not there; give another set with --input")
    importing = [sys.executable, "-c", TENSORFLOW, args.input] if args.estimator else IMPORTS
    measured, name = (measure_estimator, "start") if args.estimator else (measure_run, "run")
    measure(importing)  # files are in the system's cache from here on
    measured(args.input, args.k)
    imports, runs = [], []
    for _ in range(args.runs):
        imports.append(measure(importing))
        runs.append(measured(args.input, args.k))
        print(f"imports {imports[-1].wall:.2f} s, {name} {runs[-1].wall:.2f} s", flush=True)
    base, run = median(imports), median(runs)
    print("| | wall seconds | CPU seconds |\n|---|--:|--:|")
    print(f"| imports | {base.wall:.2f} | {base.cpu:.2f} |")
    print(f"| {name} | {run.wall:.2f} | {run.cpu:.2f} |")
    print(f"| ratio | {run.wall / base.wall:.2f} | {run.cpu / base.cpu:.2f} |")


if __name__ == "__main__":
    main()

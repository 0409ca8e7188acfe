"""Time of a sweep beside that of separate fits of the same k, each a command of its own.

    python benchmarks/sweep.py --input mnist.npz --k 8,10,16,32

Prints the seconds of both and their ratio, and checks that both leave the same centroids, rows and
iterations, to the bit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]


def job(*arguments) -> float:
    """Runs a command; returns its seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "job", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return time.perf_counter() - start


def outcome(folder: Path) -> tuple:
    """Reads what the sweep and the separate fits must have in common."""
    history = [json.loads(line) for line in (folder / "history.jsonl").open()]
    for record in history:
        del record["seconds"]
    rows = pq.read_table(folder / "assignments")
    return (folder / "centroids.npy").read_bytes(), rows, history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", default="../shared/data/mnist.npz", help="SPEC of the images")
    parser.add_argument("--k", default="8,10,16,32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = folder / "shards"
        job("shard", "--input", args.input, "--output", shards, "--quiet")
        fit = ("fit", "--shards", shards, "--quiet")
        job(*fit, "--k", 2, "--output", folder / "warm", "--max-iterations", 1)  # files are cached
        separate = {
            k: job(*fit, "--k", k, "--output", folder / f"separate-{k}") for k in args.k.split(",")
        }
        together = job(*fit, "--k", args.k, "--output", folder / "sweep")
        for k in separate:
            assert outcome(folder / f"separate-{k}") == outcome(folder / "sweep" / f"k={k}"), k
    total = sum(separate.values())
    print("separate: " + ", ".join(f"k={k} {seconds:.1f} s" for k, seconds in separate.items()))
    print(f"sweep {together:.1f} s, separate {total:.1f} s, ratio {together / total:.2f}")
    print("the same bits")


if __name__ == "__main__":
    main()

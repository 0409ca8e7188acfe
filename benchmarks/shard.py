"""Memory and speed of `shard`: python benchmarks/shard.py [--images 20000] [--runs 3].

Memory: peak of the whole command for a set and for one 8 times as large. Speed: against a single
loop that decodes and flattens images and writes one tf.train.Example for each with TensorFlow's
TFRecordWriter, on the same files, in turns. The start of the command (Python, Beam, a set of one
image) is measured apart and subtracted.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
import sets  # noqa: E402

FACTOR = 8
MEMORY = ("idx", "folder", "TFRecord", "Parquet")
# Format → the most times the loop's seconds, and how many times as many images are measured: those
# of formats that need no decoding take little time.
SPEED = {"npz": (1.5, 8), "idx": (1.5, 8), "folder": (1.3, 1)}


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """MNIST, repeated or cut to `count`; random pixels where it is not there."""
    index = np.arange(count)
    if sets.MNIST.exists():
        with np.load(sets.MNIST) as mnist:
            rows = index % len(mnist["x_train"])
            return mnist["x_train"][rows], mnist["y_train"][rows]
    print(f"{sets.NO_MNIST}: random pixels instead\n")
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), index % 10


def write(kind: str, folder: Path, count: int) -> str:
    """Writes a set of `count` images of a format; returns its SPEC.

    In a process of its own, so that this one stays small: a process that it forks counts the memory
    of its parent as its own.
    """
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--write", kind, str(folder), str(count)]
    return subprocess.check_output(command, text=True).splitlines()[-1]


def run_shard(spec: str, output: Path) -> tuple[float, float]:
    """Runs the command; returns its seconds and peak MiB."""
    command = [sys.executable, "-m", "pipeline", "--input", spec, "--output", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--quiet", "--overwrite"], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"shard of {spec} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def run_loop(kind: str, spec: str, output: Path) -> float:
    """Runs the loop in a process of its own; returns its seconds without imports."""
    command = [sys.executable, __file__, "--loop", kind, spec, str(output)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return json.loads(subprocess.check_output(command, env=environment, stderr=subprocess.DEVNULL))


def loop(kind: str, spec: str, output: str) -> float:
    """Shards as one would without this project; returns the seconds."""
    import gzip

    import tensorflow as tf
    from PIL import Image

    def decoded():
        if kind == "npz":
            with np.load(spec) as file:
                yield from zip(file["x_train"], file["y_train"], strict=True)
        elif kind == "idx":
            with gzip.open(spec) as file:
                pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
            labels = Path(spec).with_name("train-labels-idx1-ubyte").read_bytes()[8:]
            yield from zip(pixels, labels, strict=True)
        else:
            for path in sorted(Path(spec).glob("*/*.png")):
                with Image.open(path) as image:
                    yield np.asarray(image), int(path.parent.name)

    def feature(**kind):
        return tf.train.Feature(**kind)

    start = time.perf_counter()
    with tf.io.TFRecordWriter(output) as writer:
        for pixels, label in decoded():
            values = {
                "image": feature(
                    bytes_list=tf.train.BytesList(value=[pixels.reshape(-1).tobytes()])
                ),
                "label": feature(int64_list=tf.train.Int64List(value=[int(label)])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=values))
            writer.write(example.SerializeToString())
    return time.perf_counter() - start


def memory(folder: Path, count: int) -> None:
    """Prints the table of peak memory."""
    print(f"| format | {count:,} images | {FACTOR * count:,} images | ratio (≤ 1.1) |")
    print("|---|---:|---:|---:|")
    for kind in MEMORY:
        peaks = []
        for size in (count, FACTOR * count):
            spec = write(kind, folder / f"{kind}-{size}", size)
            peaks.append(run_shard(spec, folder / "shards")[1])
            shutil.rmtree(folder / f"{kind}-{size}")
        small, large = peaks
        print(f"| {kind} | {small:.0f} MiB | {large:.0f} MiB | {large / small:.2f} |", flush=True)


def speed(folder: Path, count: int, runs: int) -> None:
    """Prints the table of throughput."""
    print(
        "| format | images | start-up | images/s | loop's images/s | seconds / loop's | at most |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind, (most, times) in SPEED.items():
        one = write(kind, folder / f"{kind}-one", 1)
        spec = write(kind, folder / f"{kind}-speed", times * count)
        started, ours, theirs = [], [], []
        for _ in range(runs):
            started.append(run_shard(one, folder / "shards")[0])
            theirs.append(run_loop(kind, spec, folder / "loop"))
            ours.append(run_shard(spec, folder / "shards")[0])
        start, loops = statistics.median(started), statistics.median(theirs)
        seconds = statistics.median(ours) - start
        print(
            f"| {kind} | {times * count:,} | {start:.1f} s | {times * count / seconds:,.0f} "
            f"| {times * count / loops:,.0f} "
            f"| {seconds / loops:.2f} | {most} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=int, default=20_000, help="images in the smaller set for memory"
    )
    parser.add_argument(
        "--speed-images",
        type=int,
        default=20_000,
        help="images in the PNG set for speed; the other sets have 8 times as many",
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each; their median counts")
    parser.add_argument("--loop", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        kind, folder, count = args.write
        print(sets.FORMATS[kind](Path(folder), *images(int(count))))
        return
    if args.loop:
        print(loop(*args.loop))
        return
    with tempfile.TemporaryDirectory() as folder:
        memory(Path(folder), args.images)
        print()
        speed(Path(folder), args.speed_images, args.runs)


if __name__ == "__main__":
    main()

"""Speed of decoding: python benchmarks/decode.py [--images 6000] [--runs 3].

`shard` makes 64 × 64 pixels of JPEG files of 256 × 256, in turns with a plain program: Pillow in as
many threads as there are cores, which keeps the arrays and writes nothing. The start of the command
(Python, Beam, a set of one image) is measured apart and subtracted. The photos are crops of those
that scikit-learn ships.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BAR = 1.15
SIDE, SIZE = 256, 64
PLAIN = """
import concurrent.futures, glob, os, sys, time
import numpy as np
from PIL import Image

def pixels(path):
    with Image.open(path) as image:
        small = image.convert("RGB").resize((int(sys.argv[2]),) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small)

paths = sorted(glob.glob(sys.argv[1] + "/*/*.jpg"))
pixels(paths[0])
wall, cpu = time.perf_counter(), time.process_time()
with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    kept = list(pool.map(pixels, paths))
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def write_photos(folder: Path, count: int) -> None:
    """Writes `count` JPEG files in ten folders, always the same ones."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(rng.integers(200, 427))
        left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
        crop = photo.crop((left, top, left + side, top + side))
        path = folder / str(number % 10) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(path, quality=90)


def run_shard(folder: Path, output: Path) -> np.ndarray:
    """Runs the command; returns its wall and CPU seconds."""
    command = [sys.executable, "-m", "pipeline", "--input", str(folder), "--output", str(output)]
    options = ["--image-size", f"{SIZE}x{SIZE}", "--quiet", "--overwrite"]
    before = os.times()
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system
    return np.array([after.elapsed - before.elapsed, cpu - before.children_system])


def run_plain(folder: Path) -> np.ndarray:
    """Runs the plain program; returns its wall and CPU seconds without imports."""
    command = [sys.executable, "-c", PLAIN, str(folder), str(SIZE)]
    return np.array(subprocess.check_output(command, text=True).split(), float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6000, help="JPEG files")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; their median counts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "one", 1)
        write_photos(folder / "all", args.images)
        print("| run | shard | plain threads | ratio | of CPU seconds |")
        print("|---|---:|---:|---:|---:|")
        ratios = []
        for run in range(args.runs):
            plain = run_plain(folder / "all")
            ours = run_shard(folder / "all", folder / "S") - run_shard(folder / "one", folder / "S")
            ratios.append(ours / plain)
            wall, cpu = ratios[-1]
            print(f"| {run + 1} | {ours[0]:.1f} s | {plain[0]:.1f} s | {wall:.2f} | {cpu:.2f} |")
    wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"\nmedian ratio {wall:.2f} (at most {BAR}), of CPU seconds {cpu:.2f}")


if __name__ == "__main__":
    main()

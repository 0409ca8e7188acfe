"""Memory of reading stays the same when a set grows, and an array in memory is not copied."""

import csv
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sets
from jobs import ROOT

PEAK = """
import resource, sys
from pipeline.shards import plan
from pipeline.sources import open_source
from pipeline.write import write_shard
source = open_source(sys.argv[1])
for piece in plan.pieces(source.num_images, 2):
    write_shard(source, piece, sys.argv[2], 2)
print(source.num_images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
PNG = sets.encoded(np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8))


def tar(path: Path, size: int) -> None:
    with tarfile.open(path, "w") as archive:
        for i in range(size):
            for name, data in ((f"{i:06d}.png", PNG), (f"{i:06d}.cls", b"%d" % (i % 3))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def zipped(path: Path, size: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(size):
            archive.writestr(f"{i % 3}/{i:06d}.png", PNG)


def lines(path: Path, size: int) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([i % 3, *range(196)] for i in range(size))


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "write"), [("tar", tar), ("zip", zipped), ("csv", lines)])
def test_eight_times_the_images_take_the_same_memory(tmp_path, ending, write):
    peaks = []
    for size in (3_000, 24_000):
        write(path := tmp_path / f"{size}.{ending}", size)
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / "shards")]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        num_images, peak = map(int, output.stdout.split())
        assert num_images == size
        peaks.append(peak)
    assert peaks[1] <= 1.1 * peaks[0], peaks


FIT_PEAK = """
import resource, sys
import numpy as np
from job.kmeans.blocks import aligned_empty
from kmeans_job import KMeans
size, shift = map(int, sys.argv[1:])
X = aligned_empty((size * 784 + shift,), "uint8")[shift:].reshape(size, 784)
X[:] = 0
random = np.random.default_rng(0)
for start in range(0, size, 5_000):
    X[start : start + 5_000] = random.integers(0, 256, (5_000, 784), dtype=np.uint8)
KMeans(20, max_iter=4).fit(X)
print(X.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


# 1.10 to 1.33 times the array's bytes were seen, by what TensorFlow allocates for the processor it
# runs on; a copy would make 2.
@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 16])  # 16: TensorFlow cannot use the bytes as they lie
def test_a_fit_of_an_array_holds_it_once(shift):
    held, peaks = [], []
    for size in (5_000, 300_000):
        command = [sys.executable, "-W", "ignore", "-c", FIT_PEAK, str(size), str(shift)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        num_bytes, peak = map(int, done.stdout.split())
        held.append(num_bytes)
        peaks.append(peak)
    assert peaks[1] - peaks[0] <= 1.4 * (held[1] - held[0]), (held, peaks)

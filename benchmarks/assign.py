"""Images per second of `assign`: python benchmarks/assign.py [--images 120000] [--k 10,100].

Compares the pipeline of `assign` with a numpy loop that one would write without this project
(float64, argmin, blocks). Both run in turns in one process, on the same .npy file, and are timed
from its first byte to the last row of Parquet. Two more pipelines read the same blocks and only
find the clusters: in a DoFn with numpy, as `assign` does, and with Beam's RunInference and the
result's SavedModel. All must find the same clusters. Memory: peak of the whole command, for the set
and for one 8 times as large.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import apache_beam as beam  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import sets  # noqa: E402
import tensorflow as tf  # noqa: E402
from apache_beam.ml.inference.base import ModelHandler, RunInference  # noqa: E402

from job import fit as fitting  # noqa: E402
from job.config import FitConfig  # noqa: E402
from pipeline.nearest import Model, NearestCentroid, read_model  # noqa: E402
from pipeline.shard import num_shards_of  # noqa: E402
from pipeline.shards.block import Block  # noqa: E402
from pipeline.sources import open_source  # noqa: E402
from pipeline.transforms.assign_images import AssignImages  # noqa: E402
from pipeline.transforms.runner import make_pipeline, run_pipeline  # noqa: E402
from pipeline.transforms.shard_images import Pieces  # noqa: E402

FACTOR = 8
PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
)
BLOCK = 1337  # of about 1 MiB, as the pipeline's


def write_images(path: Path, count: int) -> None:
    """Writes MNIST, repeated or cut to `count`; random pixels if MNIST is not there."""
    if sets.MNIST.exists():
        with np.load(sets.MNIST) as mnist:
            train = mnist["x_train"]
    else:
        print(f"{sets.NO_MNIST}: random pixels instead\n")
        train = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 28, 28))
    for start in range(0, count, len(train)):
        images[start : start + len(train)] = train[: count - start]


def fit(folder: Path, k: int) -> str:
    """Makes a result with k centroids; returns its folder."""
    write_images(folder / "train.npy", 60_000)
    command = [sys.executable, "-m", "pipeline", "--input", folder / "train.npy", "--quiet"]
    shards, output = folder / "shards", folder / f"k={k}"
    subprocess.run([*command, "--output", shards, "--overwrite"], cwd=ROOT, check=True)
    fitting.fit(FitConfig(shards=str(shards), output=str(output), k=k, max_iterations=3))
    return str(output)


def numpy_loop(path: Path, model: Model, output: Path) -> np.ndarray:
    """Assigns as one would without this project; returns the clusters."""
    images = np.load(path, mmap_mode="r")
    centroids = model.centroids.astype(np.float64)
    norms, found = np.square(centroids).sum(axis=1), []
    schema = pa.schema({"id": pa.string(), "cluster": pa.int64(), "distance": pa.float32()})
    with pq.ParquetWriter(output / "numpy.parquet", schema) as writer:
        for start in range(0, len(images), BLOCK):
            pixels = images[start : start + BLOCK].reshape(-1, 784) / 255
            scores = norms - 2 * pixels @ centroids.T
            clusters = scores.argmin(axis=1)
            squared = scores.min(axis=1) + np.square(pixels).sum(axis=1)
            ids = [f"train/{row:05d}" for row in range(start, start + len(pixels))]
            distances = np.sqrt(squared).astype(np.float32)
            writer.write_batch(pa.record_batch([pa.array(ids), clusters, distances], schema))
            found.append(clusters)
    return np.concatenate(found)


def our_pipeline(path: Path, model: Model, output: Path) -> np.ndarray:
    """Runs the pipeline of `assign`; returns the clusters."""
    source = open_source(str(path))
    shards = num_shards_of(source, None)
    run_pipeline(make_pipeline(lambda: AssignImages(source, model, str(output), shards), []))
    return pq.read_table(output / "assignments")["cluster"].to_numpy()


class Handler(ModelHandler[Block, np.ndarray, Callable]):
    """Blocks → clusters, with the SavedModel of a result; a block is a batch already."""

    def __init__(self, model: Model):
        self._folder, self._shape = f"{model.folder}/model", model.image_shape

    def load_model(self) -> Callable:
        self._loaded = tf.saved_model.load(self._folder)
        return self._loaded.signatures["serving_default"]

    def run_inference(self, batch, model: Callable, inference_args=None) -> Iterator[np.ndarray]:
        for block in batch:
            images = block.pixels.reshape(-1, *self._shape)
            yield model(images=tf.constant(images))["cluster"].numpy()

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": 1, "max_batch_size": 1}


class ScoreBlocks(beam.DoFn):
    """Blocks → clusters, with numpy."""

    def __init__(self, folder: str):
        self._folder = folder

    def setup(self) -> None:
        self._nearest = NearestCentroid(read_model(self._folder))

    def process(self, block: Block) -> Iterator[np.ndarray]:
        yield self._nearest(block).clusters


def clusters_only(path: Path, output: Path, step: beam.PTransform) -> np.ndarray:
    """Runs `step` on the blocks that `assign` reads; returns the clusters."""
    source = open_source(str(path))
    shards, file = num_shards_of(source, None), output / "clusters"

    @beam.ptransform_fn
    def transform(begin):
        return (
            begin
            | Pieces(source, shards)
            | beam.FlatMap(source.read)
            | step
            | beam.Map(lambda clusters: clusters.tobytes())
            | beam.combiners.ToList()
            | beam.Map(lambda parts: file.write_bytes(b"".join(parts)))
        )

    run_pipeline(make_pipeline(transform, []))
    return np.frombuffer(file.read_bytes(), np.int32)


RIVALS = {
    "numpy loop": numpy_loop,
    "assign": our_pipeline,
    "clusters only, numpy": lambda path, model, output: clusters_only(
        path, output, beam.ParDo(ScoreBlocks(model.folder))
    ),
    "clusters only, RunInference": lambda path, model, output: clusters_only(
        path, output, RunInference(Handler(model))
    ),
}


def speed(path: Path, model: Model, runs: int) -> None:
    """Prints the rows of one model: images per second, and the ratio to numpy's."""
    seconds: dict[str, list[float]] = {name: [] for name in RIVALS}
    sizes = {}
    for _ in range(runs):
        for name, rival in RIVALS.items():
            with tempfile.TemporaryDirectory() as output:
                start = time.perf_counter()
                clusters = rival(path, model, Path(output))
                seconds[name].append(time.perf_counter() - start)
            sizes[name] = np.bincount(clusters, minlength=len(model.centroids)).tolist()
    if len(set(map(json.dumps, sizes.values()))) > 1:
        raise SystemExit(f"they disagree: {sizes}")
    loop = statistics.median(seconds["numpy loop"])
    for name, taken in seconds.items():
        rate = len(clusters) / statistics.median(taken)
        ratio = loop / statistics.median(taken)
        print(f"| {len(model.centroids)} | {name} | {rate:,.0f} | {ratio:.2f} |", flush=True)


def memory(path: Path, model: Model, output: Path) -> float:
    """Runs the command; returns its peak memory in MiB."""
    options = ["--model", model.folder, "--input", path, "--output", output, "--overwrite"]
    command = [sys.executable, "-m", "job", "assign", *map(str, options), "--quiet"]
    # Started by a small process: a child counts its parent's memory at the start as its own.
    return float(subprocess.check_output([sys.executable, "-c", PEAK, *command], cwd=ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--k", default="10,100", help="comma-separated")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; their median counts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "new.npy", args.images)
        models = [read_model(fit(folder, int(k))) for k in args.k.split(",")]
        print("| k | what | images/s | times the loop's |")
        print("|--:|---|--:|--:|")
        for model in models:
            speed(folder / "new.npy", model, args.runs)
        write_images(folder / "large.npy", FACTOR * args.images)
        small, large = (
            memory(folder / f"{size}.npy", models[0], folder / "out") for size in ("new", "large")
        )
        print(f"\nmemory: {small:.0f} MiB; {FACTOR} times as many images: {large:.0f} MiB")


if __name__ == "__main__":
    main()

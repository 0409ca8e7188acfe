"""Time, memory and inertia of a fit beside the libraries people would pick instead.

    python benchmarks/fit.py --k 10,100,1000 --repeats 3

Every run is a process of its own that holds one library and fits twice from the same initial
centroids: the first fit is cold (graph tracing, threads, page faults), the second warm. Runs
alternate, so that a busy moment of the machine affects all. Fits go on until nothing changes, or
for 25 iterations from k = 1,000 on. Every library gets the images as its fastest type, already
loaded.
Prints Markdown with medians over the repeats, and where a peer was faster. Processor seconds of the
warm fit, of all threads, say more than seconds where the machine is busy.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.npz"
UNTIL_CONVERGED, MANY_CLUSTERS, FEW_ITERATIONS = 1_000, 1_000, 25


class Task(NamedTuple):
    """What one process does.

    Attributes:
      library: a key of LIBRARIES or SEEDINGS.
      folder: with images.npy, float32.npy, the shards and initial.npy.
      k: clusters.
      iterations: at most; libraries that cannot stop by themselves do as many.
      threads: of the library.
    """

    library: str
    folder: str
    k: int
    iterations: int
    threads: int


class Fit(NamedTuple):
    """What a library's fit ends with; centroids [k, d], in 0 … 1 for images of bytes."""

    centroids: np.ndarray
    iterations: int


# Each of these imports its library, then loads the images, and returns a fit without arguments.
Prepared = Callable[[], Fit]


def ours(task: Task, started: Callable[[], None], algorithm: str = "auto") -> Prepared:
    images, config = _resident(task, started, algorithm=algorithm)
    from job.kmeans import loop

    def fit() -> Fit:
        fitted, _ = loop.run_restarts(images, config, Silent())
        return Fit(fitted.centroids, fitted.iterations)

    return fit


def ours_lloyd(task: Task, started: Callable[[], None]) -> Prepared:
    return ours(task, started, "lloyd")


class Silent:
    """A callback that does nothing."""

    def on_seeding(self, *_) -> None: ...
    def on_iteration(self, *_) -> None: ...
    def on_state(self, *_) -> None: ...


def _resident(task: Task, started: Callable[[], None], **options) -> tuple[Any, Any]:
    """Our images in memory, and the options of a fit."""
    import tensorflow as tf

    from job.config import FitConfig
    from job.distribute.process import keep_freed_memory
    from job.distribute.replicas import local_replicas
    from job.images.resident import ResidentImages
    from pipeline.shards.manifest import load_manifest

    keep_freed_memory(task.k)  # as the command does
    replicas = local_replicas()
    tf.reduce_sum(tf.zeros([2])).numpy()  # starts its threads
    started()
    shards = f"{task.folder}/shards"
    options = {"init": f"{task.folder}/initial.npy", **options}
    config = FitConfig(shards, "unused", task.k, max_iterations=task.iterations, **options)
    return ResidentImages(shards, load_manifest(shards), replicas), config


def _scikit_learn(task: Task, started: Callable[[], None], kind: Any, algorithm: str) -> Prepared:
    started()
    images, initial = _floats(task)

    def fit() -> Fit:
        model = kind(
            task.k,
            init=initial,
            n_init=1,
            tol=0,
            max_iter=task.iterations,
            algorithm=algorithm,
            copy_x=False,
        )
        model.fit(images)
        return Fit(model.cluster_centers_, model.n_iter_)

    return fit


def scikit_learn_lloyd(task: Task, started: Callable[[], None]) -> Prepared:
    from sklearn.cluster import KMeans

    return _scikit_learn(task, started, KMeans, "lloyd")


def scikit_learn_elkan(task: Task, started: Callable[[], None]) -> Prepared:
    from sklearn.cluster import KMeans

    return _scikit_learn(task, started, KMeans, "elkan")


def scikit_learn_intelex(task: Task, started: Callable[[], None]) -> Prepared:
    from sklearnex.cluster import KMeans

    return _scikit_learn(task, started, KMeans, "lloyd")


def faiss(task: Task, started: Callable[[], None]) -> Prepared:
    """Does as many iterations as ours, because it does not stop when nothing changes."""
    import faiss as library

    started()
    images, initial = _floats(task)

    def fit() -> Fit:
        model = library.Kmeans(
            images.shape[1], task.k, niter=task.iterations, max_points_per_centroid=len(images)
        )
        model.train(images, init_centroids=initial)
        return Fit(model.centroids, task.iterations)

    return fit


def superkmeans(task: Task, started: Callable[[], None]) -> Prepared:
    """Does as many iterations as ours; takes no initial centroids and prunes inexactly."""
    from superkmeans import SuperKMeans

    started()
    images, _ = _floats(task)

    def fit() -> Fit:
        model = SuperKMeans(
            task.k,
            images.shape[1],
            hierarchical=False,
            iters=task.iterations,
            sampling_fraction=1.0,
            max_points_per_cluster=len(images),
            n_threads=task.threads,
            tol=0.0,
            early_termination=False,
        )
        return Fit(model.train(images), task.iterations)

    return fit


def _floats(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Images and initial centroids as float32, those of bytes in 0 … 1."""
    initial = np.load(f"{task.folder}/initial.npy").astype(np.float32)
    return np.load(f"{task.folder}/float32.npy"), initial


def our_seeding(task: Task, started: Callable[[], None], method: str = "k-means++") -> Prepared:
    images, config = _resident(task, started, init=method)
    from job.kmeans import init

    def seed() -> Fit:
        return Fit(init.initial_centroids(images, config, 0, lambda _: None, []), 0)

    return seed


def our_parallel_seeding(task: Task, started: Callable[[], None]) -> Prepared:
    return our_seeding(task, started, "k-means||")


def scikit_learn_seeding(task: Task, started: Callable[[], None]) -> Prepared:
    from sklearn.cluster import kmeans_plusplus

    started()
    images, _ = _floats(task)
    return lambda: Fit(kmeans_plusplus(images, task.k, random_state=0)[0], 0)


LIBRARIES: dict[str, Callable[..., Prepared]] = {
    "ours": ours,
    "ours lloyd": ours_lloyd,
    "scikit-learn lloyd": scikit_learn_lloyd,
    "scikit-learn elkan": scikit_learn_elkan,
    "scikit-learn-intelex": scikit_learn_intelex,
    "faiss-cpu": faiss,
    "superkmeans": superkmeans,
}
SEEDINGS: dict[str, Callable[..., Prepared]] = {
    "ours k-means++": our_seeding,
    "ours k-means||": our_parallel_seeding,
    "scikit-learn k-means++": scikit_learn_seeding,
}
MODULES = {"scikit-learn-intelex": "sklearnex", "faiss-cpu": "faiss", "superkmeans": "superkmeans"}


# One process.


def work(task: Task) -> dict[str, Any]:
    """Fits twice: seconds of both, peak memory beyond start-up, and how good the outcome is.

    Processor seconds are those of the second fit.
    """
    start_bytes = 0

    def started() -> None:
        nonlocal start_bytes
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        start_bytes = memory_bytes("VmRSS")

    fit = {**LIBRARIES, **SEEDINGS}[task.library](task, started)
    seconds, outcome, processor = [], None, 0.0
    for _ in ("cold", "warm"):
        start, before = time.perf_counter(), time.process_time()
        outcome = fit()
        processor = time.process_time() - before
        seconds.append(time.perf_counter() - start)
    assert outcome is not None
    peak_bytes = memory_bytes("VmHWM") - start_bytes
    return {
        "cold": seconds[0],
        "warm": seconds[1],
        "processor": processor,
        "iterations": int(outcome.iterations),
        "peak_bytes": peak_bytes,
        "inertia": inertia(np.load(f"{task.folder}/images.npy"), outcome.centroids),
    }


def memory_bytes(name: str) -> int:
    """VmRSS (now) or VmHWM (the peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def inertia(images: np.ndarray, centroids: np.ndarray) -> float:
    """Σ squared distances of images [n, d] to the nearest of centroids [k, d], in float64."""
    total, centroids = 0.0, centroids.astype(np.float64)
    norms = np.square(centroids).sum(axis=1)
    for part in np.array_split(images, 30):
        block = published(part).astype(np.float64)
        total += np.square(block).sum() + (norms - 2 * block @ centroids.T).min(axis=1).sum()
    return float(total)


def published(images: np.ndarray) -> np.ndarray:
    """Images of bytes in 0 … 1, others as they are."""
    return images / 255 if images.dtype == np.uint8 else images


# All of them.


def run(task: Task) -> dict[str, Any]:
    """Does `work` in a new process."""
    threads = str(task.threads)
    names = ("OMP", "OPENBLAS", "MKL", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
    limits = {
        f"{name}_THREADS" if "TF" in name else f"{name}_NUM_THREADS": threads for name in names
    }
    environment = {**os.environ, **limits, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, "--work", json.dumps(task)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing on stderr"]
        raise RuntimeError(f"{task.library}: exit status {done.returncode}, {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(task: Task, libraries: list[str], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Alternating runs of `libraries`, the first of which says how many iterations there are."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in libraries}
    for _ in range(repeats):
        for name in libraries:
            result = run(task._replace(library=name))
            results[name].append(result)
            if name == "ours":
                task = task._replace(iterations=result["iterations"])
    return results


def rows(results: dict[str, list[dict[str, Any]]], image_bytes: int) -> tuple[list[str], float]:
    """A table of medians, whose ratio is ours, warm, over each library's; and the worst ratio."""
    lines = [
        "| library | warm s | ms / iteration | processor s | cold s | ours / theirs | iterations "
        "| inertia | peak memory, bytes of the images |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    medians = {
        name: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        for name, runs in results.items()
    }
    base = next(iter(medians.values()))["warm"]
    for name, m in medians.items():
        per_iteration = f"{1000 * m['warm'] / m['iterations']:.1f}" if m["iterations"] else "–"
        lines.append(
            f"| {name} | {m['warm']:.2f} | {per_iteration} | {m['processor']:.2f} "
            f"| {m['cold']:.2f} | {base / m['warm']:.2f} | {m['iterations']:.0f} "
            f"| {m['inertia']:.2f} | {m['peak_bytes'] / image_bytes:.2f} × |"
        )
    peers = {name: m["warm"] for name, m in medians.items() if not name.startswith("ours")}
    if not peers:
        return lines, 0.0
    best = min(peers, key=lambda name: peers[name])
    lines += ["", f"Ours takes {base / peers[best]:.2f} times the best peer's time ({best})."]
    return lines, base / peers[best]


def losses(ratios: dict[str, float]) -> str:
    """One line that says in which of the fits a peer was faster."""
    lost = [f"{name} ({ratio:.2f} ×)" for name, ratio in ratios.items() if ratio > 1]
    return f"We lose at: {', '.join(lost)}." if lost else "We lose nowhere."


# The images.


def synthetic() -> np.ndarray:
    """60,000 × 784 uint8 as bright and as correlated as clothes: smooth parts, mixed, cut out."""
    rng = np.random.default_rng(0)
    coarse = rng.random((40, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    kinds = rng.dirichlet(np.full(40, 0.15), 10)[rng.integers(0, 10, 60_000)]
    weights = kinds + rng.dirichlet(np.full(40, 0.2), 60_000)
    pixels = weights @ coarse.reshape(40, 784) * 130
    pixels += rng.normal(0, 12, pixels.shape)
    return np.where(pixels > 90, np.clip(pixels, 0, 255), 0).astype(np.uint8)


def tiles() -> np.ndarray:
    """10,000 × 12,288 uint8: colour tiles of 64 × 64, 100 kinds of patches with noise."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(40, 216, (100, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = np.empty((10_000, 64 * 64 * 3), np.uint8)
    for rows_of in np.array_split(np.arange(len(images)), 20):
        pixels = kinds[rng.integers(0, 100, len(rows_of))].reshape(len(rows_of), -1)
        images[rows_of] = np.clip(pixels + rng.normal(0, 40, pixels.shape), 0, 255)
    return images


def vectors() -> np.ndarray:
    """100,000 × 512 float32 of length 1, as embeddings are: a mixture of 200 Gaussians."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((200, 512), np.float32)
    images = middles[rng.integers(0, 200, 100_000)]
    images += rng.standard_normal(images.shape, np.float32)
    return images / np.linalg.norm(images, axis=1, keepdims=True)


MADE: dict[str, Callable[[], np.ndarray]] = {
    "synthetic": synthetic,
    "tiles": tiles,
    "vectors": vectors,
}


def load(name: str) -> np.ndarray:
    """The images that `--images` names; uint8 or float32 [n, d]."""
    if name in MADE:
        return MADE[name]()
    file = np.load(MNIST if name == "mnist" else name)
    images = file if isinstance(file, np.ndarray) else file["x_train"]
    return images.reshape(len(images), -1)


def prepare(folder: Path, images: np.ndarray) -> None:
    """Writes the images for every library."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import shard_set

    np.save(folder / "images.npy", images)
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    np.save(folder / "float32.npy", images.astype(np.float32) / scale)
    (folder / "shards").mkdir()
    shard_set.write(folder / "shards", images, block_rows=1337)


def machine() -> str:
    """The processor, and the versions of what is measured."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in info if line.startswith("model name")), "")
    packages = ("tensorflow", "numpy", "scikit-learn", *MODULES)
    versions = []
    for name in packages:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, " + ", ".join(
        versions
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--k", default="10,100,1000", help="numbers of clusters")
    parser.add_argument("--iterations", type=int, help="at most (default: see above)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(LIBRARIES), help="of: %(default)s")
    parser.add_argument(
        "--images", default="mnist,synthetic", help=f"mnist, {', '.join(MADE)}, PATH"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-seeding", dest="seeding", action="store_false")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(names: str) -> list[str]:
    """The libraries that are wanted and installed, ours first; says which are not installed."""
    wanted = ["ours", *(name for name in LIBRARIES if name != "ours" and name in names.split(","))]
    for name in [name for name in wanted if not importlib.util.find_spec(MODULES.get(name, "job"))]:
        print(f"{name} is not installed: left out.")
        wanted.remove(name)
    return wanted


def main() -> None:
    args = parse()
    sys.path.insert(0, str(ROOT))
    if args.work:
        print(json.dumps(work(Task(*json.loads(args.work)))))
        return
    print(f"{machine()}; {args.threads} threads, median of {args.repeats}.\n")
    libraries, ratios = chosen(args.peers), dict[str, float]()
    for name in args.images.split(","):
        if name == "mnist" and not MNIST.exists():
            print(f"no MNIST at {MNIST}: left out.")
            continue
        with tempfile.TemporaryDirectory() as folder:
            images = load(name)
            prepare(Path(folder), images)
            for k in map(int, args.k.split(",")):
                rows_of = np.random.default_rng(0).choice(len(images), k, replace=False)
                np.save(f"{folder}/initial.npy", published(images[rows_of]))
                limit = FEW_ITERATIONS if k >= MANY_CLUSTERS else UNTIL_CONVERGED
                limit = args.iterations or limit
                task = Task("ours", folder, k, limit, args.threads)
                print(f"### {name}, {len(images):,} × {images.shape[1]}, k = {k:,}\n")
                found = measure(task, libraries, args.repeats)
                table, ratios[f"{name}, k = {k:,}"] = rows(found, images.nbytes)
                print("\n".join(table))
                if args.seeding:
                    print("\nInitial centroids alone:\n")
                    print("\n".join(rows(measure(task, [*SEEDINGS], 1), images.nbytes)[0]))
                print(flush=True)
    print(losses(ratios))


if __name__ == "__main__":
    main()

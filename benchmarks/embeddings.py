"""Pixels or vectors for K-means: python benchmarks/embeddings.py [--epochs 6] [--restarts 5].

Clusters MNIST's training images as pixels, as 50 principal components, and as vectors of a small
convolutional autoencoder, which is trained here, on the CPU and without labels, to undo distortions
of images. Purity is that of the best of some restarts. Milliseconds are the median iteration of a
fit with `lloyd`, which scores every image in every iteration, and with `auto`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
import sets  # noqa: E402

ALGORITHMS = ("lloyd", "auto")


class Measured(NamedTuple):
    """A fit: the content of metrics.json, and the median seconds of its iterations."""

    metrics: dict
    iteration_seconds: float


def train(path: Path, epochs: int, num_features: int) -> tuple[float, float]:
    """Trains an autoencoder, saves its encoder; returns seconds and cross entropy of a pixel."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    with np.load(sets.MNIST) as mnist:
        images = mnist["x_train"][..., None].astype(np.float32) / 255
    encoder = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(num_features),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((num_features,)),
            layers.Dense(7 * 7 * 32, activation="relu"),
            layers.Reshape((7, 7, 32)),
            layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", activation="sigmoid"),
        ]
    )
    # Distortions that the encoder learns to ignore.
    spoil = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.RandomTranslation(0.1, 0.1, fill_mode="constant"),
            layers.RandomRotation(0.05, fill_mode="constant"),
            layers.GaussianNoise(0.3),
        ]
    )
    model = keras.Sequential([spoil, encoder, decoder])
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
    start = time.perf_counter()
    history = model.fit(images, images, batch_size=128, epochs=epochs, verbose=0)
    encoder.save(path)
    return time.perf_counter() - start, history.history["loss"][-1]


def run(*arguments) -> None:
    """Runs a command of kmeans-job."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "job", *map(str, arguments), "--quiet"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def fit(shards: Path, output: Path, *flags) -> Measured:
    """A fit's metrics and median iteration, without the first, which traces graphs."""
    run("fit", "--shards", shards, "--output", output, "--overwrite", *flags)
    lines = [json.loads(line) for line in (output / "history.jsonl").open()]
    seconds = [line["seconds"] for line in lines if line["iteration"] > 1]
    metrics = json.loads((output / "metrics.json").read_text())
    return Measured(metrics, statistics.median(seconds))


def table(shards: dict[str, Path], output: Path, args: argparse.Namespace) -> None:
    """Prints a row for each set of shards."""
    flags = ("--k", args.k, "--seed", args.seed)
    best = {
        name: fit(folder, output, *flags, "--restarts", args.restarts).metrics
        for name, folder in shards.items()
    }
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.runs):
        for name, folder in shards.items():
            for algorithm in ALGORITHMS:
                measured = fit(folder, output, *flags, "--algorithm", algorithm)
                times.setdefault((name, algorithm), []).append(measured.iteration_seconds)
    print("| images as | numbers | purity | weighted | NMI | ms / iteration, `lloyd` | `auto` |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, metrics in best.items():
        cells = [
            f"{1000 * min(times[name, algorithm]):.1f} "
            f"({min(times['pixels', algorithm]) / min(times[name, algorithm]):.1f} ×)"
            for algorithm in ALGORITHMS
        ]
        print(
            f"| {name} | {metrics['num_features']} | {metrics['purity']:.4f} "
            f"| {metrics['purity_weighted']:.4f} | {metrics['nmi']:.4f} | {' | '.join(cells)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of the training")
    parser.add_argument(
        "--features", type=int, default=10, help="numbers in the vector of an image"
    )
    parser.add_argument("--model", type=Path, help="a saved encoder, instead of training one")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--restarts", type=int, default=5, help="restarts of the fits whose purity is shown"
    )
    parser.add_argument("--runs", type=int, default=2, help="runs of each fit; the fastest counts")
    args = parser.parse_args()
    if not sets.MNIST.exists():
        raise SystemExit(sets.NO_MNIST)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = args.model or folder / "encoder.keras"
        if not args.model:
            seconds, error = train(model, args.epochs, args.features)
            print(
                f"Autoencoder: {args.epochs} epochs, {seconds:.0f} s, cross entropy {error:.4f}\n"
            )
        seen = {"pixels": (), "pca:50": ("--transform", "pca:50")}
        seen["autoencoder"] = ("--transform", f"keras:{model}")
        shards = {}
        for number, (kind, flags) in enumerate(seen.items()):
            shards[kind] = folder / f"shards-{number}"
            run("shard", "--input", sets.MNIST, "--output", shards[kind], *flags)
        table(shards, folder / "result", args)


if __name__ == "__main__":
    main()

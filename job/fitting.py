"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import dataclasses
import hashlib
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from job import __version__, kmeans, loop, metrics, outputs, report
from job.assigned import Assigned, Assigner, Examples, Tally
from job.checkpoint import Checkpoints, Written
from job.config import FitConfig
from job.dataset import Images
from job.loop import Fitted, IterationRecord, State
from job.replicas import local_replicas
from job.report.result import read_metrics
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import Block, Manifest, load_manifest, read_shard
from pipeline.terminal import Progress, without_chatter


def fit(
    config: FitConfig,
    overwrite: bool = False,
    quiet: bool = True,
    also: tuple[str, ...] = (),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Clusters the images of `config.shards` into `config.output`; what metrics.json says.

    Goes on from the checkpoint of an earlier run of the same fit, if there is one.

    Args:
      overwrite: replaces a result or a checkpoint that is there.
      quiet: shows no progress.
      also: names that the output folder may hold besides a result.
      clock: seconds, monotonic.

    Raises:
      UserError: an option, the shards or the output folder is at fault.
    """
    manifest = load_manifest(config.shards)
    if config.k > manifest.num_images:
        raise UserError(f"--k {config.k}: more clusters than the {manifest.num_images} images")
    folder = storage.join(config.output, outputs.CHECKPOINT)
    checkpoints = Checkpoints(folder, identity(config, manifest), config.checkpoint_seconds, clock)
    outputs.prepare(config.output, overwrite, also)
    saved = checkpoints.load()
    if outputs.is_all_but_done(config.output):
        storage.remove(folder)
        return read_metrics(config.output)
    start = clock()
    with without_chatter():
        replicas = local_replicas(config.replicas)
    images = Images(config.shards, manifest, replicas)
    loaded = clock()
    state, lines = saved or (None, b"")
    with (
        contextlib.closing(outputs.History(config.output, lines)) as history,
        Progress("fit", None, "iterations", quiet) as progress,
    ):
        observer = _Observer(images.num_images, config.k, history, progress, checkpoints)
        fitted, seconds = loop.fit(images, config, observer, clock, state)
    checkpoints.flush()
    outputs.write_centroids(config.output, fitted.centroids)
    writing = clock()
    tally, examples = _write_assignments(config, manifest, images.units, fitted, quiet)
    outputs.write_examples(config.output, examples.columns())
    result = {
        **_metrics(config, manifest, images.units, fitted, tally),
        "seconds": {
            "load": loaded - start,
            "init": seconds.init,
            "fit": seconds.fit,
            "write": clock() - writing,
        },
        "replicas": replicas.count,
        "workers": 1,
    }
    report.write(config.output, result)
    # Whoever sees metrics.json sees a complete result.
    outputs.write_metrics(config.output, result)
    storage.remove(folder)
    return result


def identity(config: FitConfig, manifest: Manifest) -> dict[str, Any]:
    """What decides the bits of a result; a checkpoint is gone on from only if all of it is equal.

    Where the shards lie, how many there are, replicas and memory do not decide them.
    """
    options = ("k", "init", "seed", "restarts", "max_iterations", "tol", "algorithm")
    names = {name: getattr(config, name) for name in options}
    if config.init.endswith(".npy"):
        names["init_file"] = hashlib.sha256(storage.read_bytes(config.init)).hexdigest()
    return {**names, "fingerprint": manifest.fingerprint}


class _Observer:
    """Writes what happens to history.jsonl, the checkpoint and the terminal."""

    def __init__(
        self,
        num_images: int,
        k: int,
        history: outputs.History,
        progress: Progress,
        checkpoints: Checkpoints,
    ):
        self._num_images, self._k = num_images, k
        self._history, self._progress, self._checkpoints = history, progress, checkpoints
        self._iterations = history.text.count(b"\n")

    def seeding(self, restart: int, num_centroids: int) -> None:
        figures = f"restart {restart + 1}, {num_centroids} of {self._k} initial centroids"
        self._progress.update(self._iterations, figures)

    def iteration(self, record: IterationRecord) -> None:
        self._history.write(record)
        self._iterations += 1
        rate = self._num_images / record.seconds if record.seconds else 0
        self._progress.update(
            self._iterations,
            f"inertia {record.inertia:.6g}, {record.changed:,} changed, {rate:,.0f} images/s",
        )

    def reached(self, state: State) -> None:
        self._checkpoints.reached(state, self._history.text)


def _write_assignments(
    config: FitConfig, manifest: Manifest, units: kmeans.Units, fitted: Fitted, quiet: bool
) -> tuple[Tally, Examples]:
    """Writes the assignments of all shards but those that an earlier run has written."""
    num_shards = len(manifest.shards)
    outputs.remove_other_assignments(config.output, num_shards)
    key = hashlib.sha256(fitted.centroids.tobytes() + manifest.to_json()).hexdigest()
    written = Written(storage.join(config.output, outputs.CHECKPOINT), key)
    nearest = Assigner(fitted.centroids, units)
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)
    done = 0
    with Progress("write", manifest.num_images, "images", quiet) as progress:
        for number, shard in enumerate(manifest.shards):
            arrays = written.read(number)
            if arrays is None:
                arrays = _write_shard(config, manifest, number, nearest)
                written.note(number, arrays)
            tally, examples = _with_shard(tally, examples, arrays, config.seed)
            done += shard.num_images
            progress.update(done)
    return tally, examples


def _write_shard(
    config: FitConfig, manifest: Manifest, number: int, nearest: Assigner
) -> dict[str, np.ndarray]:
    """Writes the assignments of one shard; what `_with_shard` needs of them."""
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)

    def assign(block: Block) -> Assigned:
        assigned = nearest(block)
        tally.add(assigned)
        examples.add(assigned)
        return assigned

    blocks = read_shard(config.shards, manifest.shards[number], manifest)
    outputs.write_assignments(config.output, number, len(manifest.shards), map(assign, blocks))
    return tally.arrays() | examples.arrays()


def _with_shard(
    tally: Tally, examples: Examples, arrays: dict[str, np.ndarray], seed: int
) -> tuple[Tally, Examples]:
    """Tally and examples with those of a shard."""
    shown = {name: array for name, array in arrays.items() if "/" in name}
    return tally.merge(Tally.of(arrays)), examples.merge(Examples.of(shown, seed))


def _metrics(
    config: FitConfig,
    manifest: Manifest,
    units: kmeans.Units,
    fitted: Fitted,
    tally: Tally,
) -> dict[str, Any]:
    centroids = fitted.centroids.astype(np.float64)
    labelled = manifest.label_names is not None
    sizes = tally.sums.counts
    return {
        "num_images": manifest.num_images,
        "num_features": manifest.num_features,
        "image_shape": list(manifest.image_shape),
        "dtype": manifest.dtype,
        "label_names": list(manifest.label_names) if manifest.label_names is not None else None,
        "num_clusters": config.k,
        "algorithm": loop.chosen_algorithm(config),
        "init": config.init,
        "seed": config.seed,
        "restarts": config.restarts,
        "restart": fitted.restart,
        "iterations": fitted.iterations,
        "converged": fitted.converged,
        "inertia": kmeans.inertia(tally.squared_norm_total, tally.sums, centroids, units),
        "cluster_sizes": sizes.tolist(),
        **metrics.label_metrics(tally.contingency if labelled else None),
        "contingency": tally.contingency.tolist() if labelled else None,
        "davies_bouldin": metrics.davies_bouldin(centroids, tally.distances / np.maximum(sizes, 1)),
        "versions": {
            "kmeans-job": __version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "fingerprint": manifest.fingerprint,
        "config": dataclasses.asdict(config),
    }


def summary(result: dict[str, Any], folder: str) -> str:
    """What the terminal shows of a finished fit: at most ten lines."""
    stopped = "converged" if result["converged"] else "stopped before convergence"
    lines = [
        f"images      {result['num_images']:,} of {result['num_features']:,} pixels",
        f"clusters    {result['num_clusters']}",
        f"iterations  {result['iterations']}, {stopped}",
        f"inertia     {result['inertia']:.10g}",
    ]
    if result["purity"] is not None:
        lines += [
            f"purity      {result['purity']:.4f} mean over clusters, "
            f"{result['purity_weighted']:.4f} over images",
            f"NMI         {result['nmi']:.4f}",
            f"ARI         {result['ari']:.4f}",
            f"accuracy    {result['accuracy']:.4f}",
        ]
    return "\n".join([*lines, f"report      {folder}/{outputs.REPORT}"])

"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from job import __version__, kmeans, loop, metrics, outputs, report
from job.assigned import Assigned, Assigner, Examples, Tally
from job.config import FitConfig
from job.dataset import Images
from job.loop import Fitted, IterationRecord
from job.replicas import local_replicas
from pipeline.errors import UserError
from pipeline.shards import Block, Manifest, load_manifest
from pipeline.terminal import Progress, without_chatter


def fit(
    config: FitConfig,
    overwrite: bool = False,
    quiet: bool = True,
    also: tuple[str, ...] = (),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Clusters the images of `config.shards` into `config.output`; what metrics.json says.

    Args:
      overwrite: replaces a result that is there.
      quiet: shows no progress.
      also: names that the output folder may hold besides a result.
      clock: seconds, monotonic.

    Raises:
      UserError: an option, the shards or the output folder is at fault.
    """
    manifest = load_manifest(config.shards)
    if config.k > manifest.num_images:
        raise UserError(f"--k {config.k}: more clusters than the {manifest.num_images} images")
    outputs.prepare(config.output, overwrite, also)
    start = clock()
    with without_chatter():
        replicas = local_replicas(config.replicas)
    images = Images(config.shards, manifest, replicas)
    loaded = clock()
    with (
        contextlib.closing(outputs.History(config.output)) as history,
        Progress("fit", None, "iterations", quiet) as progress,
    ):
        observer = _Observer(images.num_images, config.k, history, progress)
        fitted, seconds = loop.fit(images, config, observer, clock)
    outputs.write_centroids(config.output, fitted.centroids)
    writing = clock()
    tally = _write_assignments(config, manifest, images.units, fitted, quiet)
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
    outputs.write_metrics(config.output, result)
    report.write(config.output)
    return result


class _Observer:
    """Writes what happens to history.jsonl and the terminal."""

    def __init__(self, num_images: int, k: int, history: outputs.History, progress: Progress):
        self._num_images, self._k = num_images, k
        self._history, self._progress, self._iterations = history, progress, 0

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


def _write_assignments(
    config: FitConfig, manifest: Manifest, units: kmeans.Units, fitted: Fitted, quiet: bool
) -> Tally:
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)
    nearest = Assigner(fitted.centroids, units)

    def assign(block: Block) -> Assigned:
        assigned = nearest(block)
        tally.add(assigned)
        examples.add(assigned)
        return assigned

    with Progress("write", manifest.num_images, "images", quiet) as progress:
        for done in outputs.write_assignments(config.output, config.shards, manifest, assign):
            progress.update(done)
    outputs.write_examples(config.output, examples.columns())
    return tally


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

"""Centroids → a result folder: assignments shard by shard, then what they add up to."""

import dataclasses
import hashlib
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from job import __version__, report
from job.checkpoint import Written
from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.kmeans import blocks as kmeans
from job.kmeans import loop
from job.kmeans.loop import Fitted
from job.result import folder as outputs
from job.result import metrics
from job.result import saved_model as model
from job.result.assigner import Assigner, Examples, Tally
from pipeline import storage
from pipeline.errors import JobError
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units
from pipeline.terminal import Progress


def write_assignments(
    config: FitConfig,
    manifest: Manifest,
    units: Units,
    fitted: Fitted,
    replicas: Replicas,
    quiet: bool,
) -> None:
    """Writes the assignments of all shards but those that an earlier run has written."""
    num_shards = len(manifest.shards)
    if replicas.worker == 0:
        outputs.remove_other_assignments(config.output, num_shards)
    written = _written(config, manifest, fitted)
    nearest = Assigner(fitted.centroids, units)
    mine = range(replicas.worker, num_shards, replicas.num_workers)
    done, total = 0, sum(manifest.shards[number].num_images for number in mine)
    with Progress("write", total, "images", quiet) as progress:
        for number in mine:
            if written.read(number) is None:
                written.note(number, _write_shard(config, manifest, number, nearest, replicas))
            done += manifest.shards[number].num_images
            progress.update(done)
    replicas.sum([np.zeros(1)])  # all are done
    replicas.end_if_asked("while writing", together=True)


def _write_shard(
    config: FitConfig, manifest: Manifest, number: int, nearest: Assigner, replicas: Replicas
) -> dict[str, np.ndarray]:
    """Writes the assignments of one shard; what `_collect` needs of them."""
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)

    def assign(block: Block) -> Assigned:
        replicas.end_if_asked("while writing")
        assigned, silhouettes = nearest(block)
        tally.add(assigned, silhouettes)
        examples.add(assigned)
        return assigned

    blocks = read_shard(config.shards, manifest.shards[number], manifest)
    num_shards, assigned = len(manifest.shards), map(assign, blocks)
    outputs.write_assignments(config.output, number, num_shards, assigned, manifest.label_names)
    return tally.arrays() | examples.arrays()


def _written(config: FitConfig, manifest: Manifest, fitted: Fitted) -> Written:
    """Notes on the shards that are written for these centroids."""
    key = hashlib.sha256(fitted.centroids.tobytes() + manifest.to_json()).hexdigest()
    return Written(storage.join(config.output, outputs.CHECKPOINT), key)


def publish(
    config: FitConfig,
    manifest: Manifest,
    units: Units,
    fitted: Fitted,
    replicas: Replicas,
    seconds: Callable[[], dict[str, float]],
) -> dict[str, Any]:
    """Writes the rest of the result, when all assignments are written; what metrics.json says.

    Args:
      seconds: where the time went, when it is asked.
    """
    tally, examples = _collect(config, manifest, fitted)
    outputs.write_centroids(config.output, fitted.centroids)
    outputs.write_examples(config.output, examples.columns())
    outputs.copy_transform(config.shards, config.output, manifest)
    model.write(config.output, fitted.centroids, manifest.image_shape, manifest.dtype)
    result = {
        **_metrics(config, manifest, units, fitted, tally),
        "seconds": seconds(),
        "replicas": replicas.count,
        "workers": replicas.num_workers,
    }
    report.write(config.output, result)
    # Whoever sees metrics.json sees a complete result.
    outputs.write_metrics(config.output, result)
    return result


def _collect(config: FitConfig, manifest: Manifest, fitted: Fitted) -> tuple[Tally, Examples]:
    """Tally and examples of all shards, in their order, whoever wrote them."""
    written = _written(config, manifest, fitted)
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)
    for number in range(len(manifest.shards)):
        arrays = written.read(number)
        if arrays is None:
            raise JobError(
                f"{written.path(number)}: not there any more; run the same command again"
            )
        shown = {name: array for name, array in arrays.items() if "/" in name}
        tally = tally.merge(Tally.of(arrays))
        examples = examples.merge(Examples.of(shown, config.seed))
    return tally, examples


def _metrics(
    config: FitConfig,
    manifest: Manifest,
    units: Units,
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
        "transform": dataclasses.asdict(manifest.transform) if manifest.transform else None,
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
        "simplified_silhouette": (
            tally.silhouettes / manifest.num_images if config.k > 1 else None
        ),
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

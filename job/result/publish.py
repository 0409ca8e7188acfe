"""Centroids → a result folder: assignments shard by shard, then what they add up to."""

import dataclasses
import hashlib
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from job import __version__, report
from job.checkpoint import ShardNotes
from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.kmeans import loop
from job.kmeans.loop import Fitted
from job.kmeans.sums import inertia
from job.result import metrics
from job.result import saved_model as model
from job.result.assigner import Assigner, Examples, Tally
from job.result.folder import CHECKPOINT
from job.result.write import (
    copy_transform,
    remove_other_assignments,
    write_assignments,
    write_centroids,
    write_examples,
    write_metrics,
)
from pipeline import storage
from pipeline.errors import JobError
from pipeline.options import recorded
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units, units_of
from pipeline.terminal import Progress


@dataclasses.dataclass(frozen=True)
class Publication:
    """What is to be published.

    Attributes:
      config: of the fit.
      manifest: of its shards.
      fitted: the centroids, and how the fit ended.
      replicas: of this worker.
    """

    config: FitConfig
    manifest: Manifest
    fitted: Fitted
    replicas: Replicas

    @property
    def units(self) -> Units:
        """The units of the images."""
        return units_of(np.dtype(self.manifest.dtype), self.manifest.num_features)

    @property
    def num_labels(self) -> int:
        """How many different labels the images have; 0 in an unlabelled set."""
        return len(self.manifest.label_names or ())

    def written(self) -> ShardNotes:
        """Notes on the shards whose assignments to these centroids are written."""
        content = self.fitted.centroids.tobytes() + self.manifest.to_json()
        folder = storage.join(self.config.output, CHECKPOINT)
        return ShardNotes(folder, hashlib.sha256(content).hexdigest())


def publish_assignments(publication: Publication, quiet: bool) -> None:
    """Writes the assignments of all shards but those that an earlier run has written."""
    replicas, shards = publication.replicas, publication.manifest.shards
    if replicas.worker == 0:
        remove_other_assignments(publication.config.output, len(shards))
    written = publication.written()
    nearest = Assigner(publication.fitted.centroids, publication.units, replicas.precision)
    mine = range(replicas.worker, len(shards), replicas.num_workers)
    done, total = 0, sum(shards[number].num_images for number in mine)
    with Progress("write", total, "images", quiet) as progress:
        for number in mine:
            if written.read(number) is None:
                written.note(number, _write_shard(publication, number, nearest))
            done += shards[number].num_images
            progress.update(done)
    replicas.all_reduce([np.zeros(1)])  # all are done
    replicas.end_all_if_asked("while writing")


def _write_shard(publication: Publication, number: int, nearest: Assigner) -> dict[str, np.ndarray]:
    """Writes the assignments of one shard; what `_collect` needs of them."""
    config, manifest = publication.config, publication.manifest
    tally = Tally(config.k, manifest.num_features, publication.num_labels)
    examples = Examples(config.seed)

    def assign(block: Block) -> Assigned:
        publication.replicas.end_if_asked("while writing")
        assigned, silhouettes = nearest(block)
        tally.add(assigned, silhouettes)
        examples.add(assigned)
        return assigned

    blocks = read_shard(config.shards, manifest.shards[number], manifest)
    write_assignments(config.output, number, manifest, map(assign, blocks))
    return tally.arrays() | examples.arrays()


def publish_result(
    publication: Publication, seconds: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Writes the rest of the result, once all assignments are written; worker 0 does so.

    Args:
      seconds: tells where the time went until it is called.

    Returns:
      What metrics.json says; nothing in other workers than worker 0.
    """
    if publication.replicas.worker != 0:
        return {}
    config, manifest, fitted = publication.config, publication.manifest, publication.fitted
    tally, examples = _collect(publication)
    write_centroids(config.output, fitted.centroids)
    write_examples(config.output, examples.columns())
    copy_transform(config.shards, config.output, manifest)
    model.write(config.output, fitted.centroids, manifest.image_shape, manifest.dtype)
    result = {
        **_metrics(publication, tally),
        "seconds": seconds(),
        "replicas": publication.replicas.count,
        "workers": publication.replicas.num_workers,
    }
    report.write_report(config.output, result)
    # Whoever sees metrics.json sees a complete result.
    write_metrics(config.output, result)
    return result


def _collect(publication: Publication) -> tuple[Tally, Examples]:
    """Tally and examples of all shards, in their order, whoever wrote them."""
    config, manifest, written = publication.config, publication.manifest, publication.written()
    tally = Tally(config.k, manifest.num_features, publication.num_labels)
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


def _metrics(publication: Publication, tally: Tally) -> dict[str, Any]:
    config, manifest, fitted = publication.config, publication.manifest, publication.fitted
    units = publication.units
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
        "inertia": inertia(tally.squared_norm_total, tally.sums, centroids, units),
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
        "config": recorded(config),
    }

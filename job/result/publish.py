"""Publishes a result: assignments shard by shard, then everything that follows from them."""

import dataclasses
import datetime
import hashlib
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from job import __version__, report
from job.checkpoint import ShardNotes
from job.config import FitConfig
from job.distribute.replicas import Replicas
from job.images.weighted import block_weights, unit_of
from job.kmeans import chosen_algorithm
from job.kmeans.loop import Fitted
from job.result import saved_model
from job.result.assigner import Measured, assigner_of
from job.result.examples import Choice, Examples
from job.result.examples import Rows as Columns
from job.result.findings import Found, Noted, Rows, find, shown_ids
from job.result.folder import CHECKPOINT
from job.result.metrics import Facts, all_metrics, are_unit
from job.result.read import read_assigned
from job.result.tally import Tally
from job.result.write import (
    copy_transform,
    remove_other_assignments,
    write_centroids,
    write_examples,
    write_findings,
    write_metrics,
    write_shard_assignments,
)
from pipeline import storage
from pipeline.errors import JobError
from pipeline.options import recorded
from pipeline.shards import thumbnails
from pipeline.shards.assignments import Assigned, assignments_file
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units, units_of
from pipeline.terminal import Progress

MERGED_BLOCKS = 16


@dataclasses.dataclass(frozen=True)
class Publication:
    """A fit whose result is to be published.

    Attributes:
      config: the options of the fit.
      manifest: the manifest of its shards.
      fitted: the centroids, and how the fit ended.
      replicas: the replicas of this worker.
      stopped: the restart and the iteration after which a caller's callback stopped the fit.
    """

    config: FitConfig
    manifest: Manifest
    fitted: Fitted
    replicas: Replicas
    stopped: dict[str, int] | None = None

    @property
    def units(self) -> Units:
        """The units of the images."""
        return units_of(np.dtype(self.manifest.dtype), self.manifest.num_features)

    @property
    def weight_unit(self) -> float:
        """The unit that weights are multiples of."""
        weights = self.manifest.weights
        return 1.0 if weights is None else unit_of(weights, self.manifest.num_images)

    def empty(self) -> tuple[Tally, Examples]:
        """Returns a tally and examples of no image."""
        num_labels = len(self.manifest.label_names or ())
        num_features = self.manifest.num_features if self.units.step else 0
        return Tally.zero(self.config.k, num_features, num_labels), Examples({})

    def notes(self) -> ShardNotes:
        """Opens the notes on shards whose assignments to these centroids are already written."""
        # With the form of the notes: another version may have left some.
        form = b"weights, silhouettes and SHA-256 of images"
        content = form + self.fitted.centroids.tobytes() + self.manifest.to_json()
        folder = storage.join(self.config.output, CHECKPOINT)
        return ShardNotes(folder, hashlib.sha256(content).hexdigest())


def publish_assignments(publication: Publication, quiet: bool) -> None:
    """Writes the assignments of all shards, apart from those that an earlier run has written."""
    replicas, shards = publication.replicas, publication.manifest.shards
    if replicas.worker == 0:
        remove_other_assignments(publication.config.output, len(shards))
    notes = publication.notes()
    nearest = assigner_of(publication.fitted.centroids, publication.manifest.dtype)
    mine = range(replicas.worker, len(shards), replicas.num_workers)
    done, total = 0, sum(shards[number].num_images for number in mine)
    with Progress("write", total, "images", quiet) as progress:
        for number in mine:
            if notes.read(number) is None:
                notes.note(number, _write_shard(publication, number, nearest))
            done += shards[number].num_images
            progress.update(done)
    replicas.all_reduce([np.zeros(1)])  # waits until all workers are done
    replicas.end_all_if_asked("while writing")


def _write_shard(
    publication: Publication, number: int, nearest: Callable[[Block], Measured]
) -> dict[str, np.ndarray]:
    """Writes the assignments of one shard; returns the arrays of what is noted of them."""
    config, manifest = publication.config, publication.manifest
    tally, examples = publication.empty()
    noted: list[Noted] = []
    waiting: list[Examples] = []
    image_bytes = manifest.num_features * np.dtype(manifest.dtype).itemsize
    choice = Choice.of(config.seed, manifest.num_images, config.k, image_bytes)

    def assign(block: Block) -> Assigned:
        nonlocal examples
        publication.replicas.end_if_asked("while writing")
        measured = nearest(block)
        tally.add(measured, block_weights(block, manifest))
        waiting.append(Examples.of(measured.assigned, choice))
        if len(waiting) == MERGED_BLOCKS:
            # Each merge copies all examples so far, so several blocks are merged at a time.
            examples = examples.merge(*waiting)
            waiting.clear()
        noted.append(Noted.of(block, measured.silhouettes))
        return measured.assigned

    # The shard is read again even if the images are resident, because their ids and labels are
    # not: an image may cost only a few bytes beside its pixels. Reading is a fifth of this pass.
    blocks = read_shard(config.shards, manifest.shards[number], manifest)
    write_shard_assignments(config.output, number, manifest, map(assign, blocks))
    examples = examples.merge(*waiting)
    return tally.arrays() | examples.arrays() | Noted.joined(noted).arrays()


def publish_result(
    publication: Publication, seconds: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Writes the rest of the result on worker 0, once all assignments are written.

    Args:
      seconds: returns how long each part of the fit took, up to the time of the call.

    Returns:
      The content of metrics.json on worker 0; an empty dict on other workers.
    """
    if publication.replicas.worker != 0:
        return {}
    config, manifest, fitted = publication.config, publication.manifest, publication.fitted
    model = config.output, fitted.centroids, manifest.image_shape, manifest.dtype
    with ThreadPoolExecutor(1) as beside:
        # It follows from the centroids alone; a core is free while other files are compressed.
        model_is_written = beside.submit(saved_model.write_model, *model)
        tally, columns = _publish_found(publication)
        result = {**_metrics(publication, tally), "seconds": seconds()}
        report.write_report(config.output, result, columns)
        model_is_written.result()
    # Last: a reader that sees metrics.json sees a complete result.
    write_metrics(config.output, result)
    return result


def _publish_found(publication: Publication) -> tuple[Tally, Columns]:
    """Writes centroids, findings and examples; returns the tally of all images, and examples."""
    config, manifest = publication.config, publication.manifest
    tally, examples, noted = _collect(publication)
    write_centroids(config.output, publication.fitted.centroids)
    found, rows = _find(publication, noted)
    write_findings(config.output, found.findings)
    columns = examples.columns(_shown(publication, found, rows))
    write_examples(config.output, columns)
    copy_transform(config.shards, config.output, manifest)
    return tally, columns


def _collect(publication: Publication) -> tuple[Tally, Examples, list[Noted]]:
    """Merges the tallies and the examples of all shards, of all workers, in the shards' order.

    What is noted of single images stays apart, by shard.
    """
    notes = publication.notes()
    tally, examples = publication.empty()
    noted: list[Noted] = []
    for number in range(len(publication.manifest.shards)):
        arrays = notes.read(number)
        if arrays is None:
            raise JobError(
                f"{notes.path(number)}: removed by another program; run the same command again"
            )
        tally = tally.merge(Tally.from_arrays(arrays))
        examples = examples.merge(Examples.from_arrays(arrays))
        noted.append(Noted.from_arrays(arrays))
    return tally, examples, noted


def _find(publication: Publication, noted: list[Noted]) -> tuple[Found, Rows]:
    """Finds what to look at first; a few bytes for each image are in memory meanwhile."""
    manifest, folder = publication.manifest, publication.config.output
    count = len(manifest.shards)
    names = [assignments_file(number, count) for number in range(count)]
    starts = np.cumsum([0, *(shard.num_images for shard in manifest.shards)])

    def ids(rows: np.ndarray) -> list[str]:
        found: list[str] = []
        for number, name in enumerate(names):
            low, high = np.searchsorted(rows, starts[number : number + 2])
            if low < high:
                column = read_assigned(folder, name, ["id"])["id"]
                found += column.take(pa.array(rows[low:high] - starts[number])).to_pylist()
        return found

    columns = ["cluster", "distance", "label"]
    rows = Rows.joined((read_assigned(folder, name, columns) for name in names), noted)
    lost = {"rejected": manifest.num_rejected, "skipped": manifest.num_skipped}
    return find(rows, ids, publication.fitted.centroids, manifest.label_names, lost), rows


def _shown(publication: Publication, found: Found, rows: Rows) -> dict[str, np.ndarray]:
    """Reads the images that the report shows as findings, as columns of the examples.

    They are few and known only now, so few shards are read again.
    """
    manifest, folder = publication.manifest, publication.config.shards
    wanted = np.unique([found.rows[name] for name in shown_ids(found.findings)]).astype(int)
    pixels = np.empty((len(wanted), manifest.num_features), manifest.dtype)
    names = {row: name for name, row in found.rows.items()}
    pictures: dict[int, bytes] = {}
    first = 0
    for shard in manifest.shards:
        last = first + shard.num_images
        if ((first <= wanted) & (wanted < last)).any():
            for block in read_shard(folder, shard, manifest):
                mine = (first <= wanted) & (wanted < first + len(block.ids))
                pixels[mine] = block.pixels[wanted[mine] - first]
                if block.thumbnails is not None:
                    rows_here = wanted[mine].tolist()
                    pictures |= {row: block.thumbnails[row - first] for row in rows_here}
                first += len(block.ids)
        first = last
    shown = {"thumbnails": thumbnails.column([*pictures.values()])} if pictures else {}
    return {
        **shown,
        "pixels": pixels,
        "ids": np.array([names[row] for row in wanted.tolist()], str),
        "labels": rows.labels[wanted].astype(np.int64),
        "clusters": rows.clusters[wanted],
        "distances": rows.distances[wanted],
    }


def _metrics(publication: Publication, tally: Tally) -> dict[str, Any]:
    """Computes the content of metrics.json, without `seconds`."""
    manifest = publication.manifest
    labelled = manifest.label_names is not None
    centroids = publication.fitted.centroids.astype(np.float64)
    about = _about_images(manifest)
    inertia = tally.inertia(centroids, publication.units) * publication.weight_unit
    weights = tally.weights * publication.weight_unit
    facts = Facts(tally, centroids, inertia, are_unit(about), float(weights.sum()))
    return {
        **about,
        **_about_fit(publication),
        **all_metrics(facts, labelled),
        "num_labelled": int(tally.contingency.sum()),
        "cluster_sizes": tally.counts.tolist(),
        **_about_weights(manifest, weights),
        "contingency": tally.contingency.tolist() if labelled else None,
        "versions": {
            "kmeans-job": __version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "config": recorded(publication.config),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _about_weights(manifest: Manifest, weights: np.ndarray) -> dict[str, Any]:
    """Says what the images of each cluster weigh, [k]; nothing where all count once."""
    if manifest.weight_column is None:
        return {}
    return {"weight_column": manifest.weight_column, "cluster_weights": weights.tolist()}


def _about_images(manifest: Manifest) -> dict[str, Any]:
    return {
        "num_images": manifest.num_images,
        "num_features": manifest.num_features,
        "image_shape": list(manifest.image_shape),
        "dtype": manifest.dtype,
        "transform": dataclasses.asdict(manifest.transform) if manifest.transform else None,
        "label_names": list(manifest.label_names) if manifest.label_names is not None else None,
        "fingerprint": manifest.fingerprint,
        "source": manifest.source,
    }


def _about_fit(publication: Publication) -> dict[str, Any]:
    config, fitted = publication.config, publication.fitted
    return {
        "num_clusters": config.k,
        "algorithm": chosen_algorithm(config),
        "init": config.init,
        "seed": config.seed,
        "restarts": config.restarts,
        "restart": fitted.restart,
        "iterations": fitted.iterations,
        "converged": fitted.converged,
        **({"stopped": publication.stopped} if publication.stopped else {}),
        "replicas": publication.replicas.count,
        "workers": publication.replicas.num_workers,
    }

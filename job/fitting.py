"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from job import __version__, kmeans, loop, memory, metrics, model, outputs, report, workers
from job.assigned import Assigned, Assigner, Examples, Tally
from job.checkpoint import Checkpoints, Written, decode_state, encode_state, flag_of
from job.config import FitConfig
from job.dataset import Images
from job.interruption import on_sigterm
from job.loop import Fitted, IterationRecord, Seconds, State
from job.replicas import Replicas, local_replicas
from job.report.result import read_metrics
from job.stream import StreamedImages
from pipeline import storage
from pipeline.errors import JobError, UserError
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
    start = clock()
    replicas = _replicas(config, manifest)
    same = identity(config, manifest)
    _agree(replicas, {**same, "shards": manifest.to_json().hex(), "output": config.output})
    folder = storage.join(config.output, outputs.CHECKPOINT)
    checkpoints = Checkpoints(folder, same, config.checkpoint_seconds, clock)
    saved = _prepare(config, replicas, checkpoints, overwrite, also)
    if outputs.is_all_but_done(config.output):
        return _complete(config, replicas, read_metrics(config.output))
    with on_sigterm(replicas.ask_to_end, checkpoints.flush):
        kind = Images if memory.fits(config, manifest, replicas) else StreamedImages
        images = kind(config.shards, manifest, replicas)
        loaded = clock()
        fitted, seconds = _fit(images, config, replicas, checkpoints, saved, quiet, clock)
        writing = clock()
        _write_assignments(config, manifest, images.units, fitted, replicas, quiet)
    result: dict[str, Any] = {}
    if replicas.worker == 0:
        tally, examples = _collect(config, manifest, fitted)
        outputs.write_centroids(config.output, fitted.centroids)
        outputs.write_examples(config.output, examples.columns())
        outputs.copy_transform(config.shards, config.output, manifest)
        model.write(config.output, fitted.centroids, manifest.image_shape, manifest.dtype)
        result = {
            **_metrics(config, manifest, images.units, fitted, tally),
            "seconds": {
                "load": loaded - start,
                "init": seconds.init,
                "fit": seconds.fit,
                "write": clock() - writing,
            },
            "replicas": replicas.count,
            "workers": replicas.num_workers,
        }
        report.write(config.output, result)
        # Whoever sees metrics.json sees a complete result.
        outputs.write_metrics(config.output, result)
    return _complete(config, replicas, result)


def _replicas(config: FitConfig, manifest: Manifest) -> Replicas:
    """The replicas of this worker, when all workers are there."""
    cluster = workers.parse(os.environ.get("TF_CONFIG"))
    workers.refuse_idle(cluster, len(manifest.shards))
    if cluster is not None:
        workers.wait_for_peers(cluster, config.start_timeout_seconds)
    with without_chatter():
        return local_replicas(config.replicas, cluster)


def _agree(replicas: Replicas, values: dict[str, Any]) -> None:
    """Checks that all workers were given the same values.

    Raises:
      UserError: one was not; it and the first different value are named.
    """
    names = sorted(values)
    digests = [hashlib.sha256(repr(values[name]).encode()).digest()[:8] for name in names]
    given = replicas.gather(np.frombuffer(b"".join(digests), np.int64))
    for worker, row in enumerate(given):
        if different := np.flatnonzero(row != given[0]).tolist():
            what = flag_of(names[different[0]])
            raise UserError(
                f"{replicas.name(worker)} has another value of {what} than "
                f"{replicas.name(0)}; start all workers with the same options and shards"
            )


def _prepare(
    config: FitConfig,
    replicas: Replicas,
    checkpoints: Checkpoints,
    overwrite: bool,
    also: tuple[str, ...],
) -> tuple[State, bytes] | None:
    """Makes the output folder ready; the state to go on from and its history, for all workers."""
    failure, data = None, b""
    if replicas.worker == 0:
        try:
            outputs.prepare(config.output, overwrite, also)
            saved = checkpoints.load()
            data = b"+" if saved is None else b"+" + encode_state({}, *saved)
        except UserError as error:
            failure = error
    data = replicas.share(data)
    if failure is not None:
        raise failure
    if not data:
        raise JobError(f"{replicas.name(0)} could not start: its message says why")
    return decode_state(data[1:])[1:] if data[1:] else None


def _fit(
    images: Images,
    config: FitConfig,
    replicas: Replicas,
    checkpoints: Checkpoints,
    saved: tuple[State, bytes] | None,
    quiet: bool,
    clock: Callable[[], float],
) -> tuple[Fitted, Seconds]:
    """`loop.fit`, with what worker 0 writes and shows of it."""
    state, lines = saved or (None, b"")
    if replicas.worker != 0:
        return loop.fit(images, config, _Follower(replicas), clock, state)
    with (
        contextlib.closing(outputs.History(config.output, lines)) as history,
        Progress("fit", None, "iterations", quiet) as progress,
    ):
        observer = _Leader(replicas, images.num_images, config.k, history, progress, checkpoints)
        try:
            fitted = loop.fit(images, config, observer, clock, state)
        except BaseException:
            # Whatever ends the fit, the next run goes on from its last iteration.
            with contextlib.suppress(UserError):
                checkpoints.flush()
            raise
        checkpoints.flush()
        return fitted


def _complete(config: FitConfig, replicas: Replicas, result: dict[str, Any]) -> dict[str, Any]:
    """Removes the checkpoint of a complete result; worker 0's `result`, for all workers."""
    shared = replicas.share(json.dumps(result).encode())
    if replicas.worker == 0:
        storage.remove(storage.join(config.output, outputs.CHECKPOINT))
    return json.loads(shared)


def identity(config: FitConfig, manifest: Manifest) -> dict[str, Any]:
    """What decides the bits of a result; a checkpoint is gone on from only if all of it is equal.

    Where the shards lie, how many there are, replicas and memory do not decide them.
    """
    options = ("k", "init", "seed", "restarts", "max_iterations", "tol", "algorithm")
    names = {name: getattr(config, name) for name in options}
    if config.init.endswith(".npy") and storage.exists(config.init):
        names["init_file"] = hashlib.sha256(storage.read_bytes(config.init)).hexdigest()
    return {**names, "fingerprint": manifest.fingerprint}


class _Follower:
    """Ends a fit when its workers are asked to."""

    def __init__(self, replicas: Replicas):
        self._replicas = replicas

    def seeding(self, restart: int, num_centroids: int) -> None: ...
    def iteration(self, record: IterationRecord) -> None: ...

    def reached(self, state: State) -> None:
        done = f"restart {state.restart + 1}, iteration {state.iteration}"
        self._replicas.end_if_asked(f"after {done}", together=True)


class _Leader(_Follower):
    """Also writes what happens to history.jsonl, the checkpoint and the terminal."""

    def __init__(
        self,
        replicas: Replicas,
        num_images: int,
        k: int,
        history: outputs.History,
        progress: Progress,
        checkpoints: Checkpoints,
    ):
        super().__init__(replicas)
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
        if self._checkpoints.reached(state, self._history.text):
            self._history.flush()
        super().reached(state)


def _write_assignments(
    config: FitConfig,
    manifest: Manifest,
    units: kmeans.Units,
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


def _written(config: FitConfig, manifest: Manifest, fitted: Fitted) -> Written:
    """Notes on the shards that are written for these centroids."""
    key = hashlib.sha256(fitted.centroids.tobytes() + manifest.to_json()).hexdigest()
    return Written(storage.join(config.output, outputs.CHECKPOINT), key)


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


def _write_shard(
    config: FitConfig, manifest: Manifest, number: int, nearest: Assigner, replicas: Replicas
) -> dict[str, np.ndarray]:
    """Writes the assignments of one shard; what `_collect` needs of them."""
    tally = Tally(config.k, manifest.num_features, len(manifest.label_names or ()))
    examples = Examples(config.seed)

    def assign(block: Block) -> Assigned:
        replicas.end_if_asked("while writing")
        assigned = nearest(block)
        tally.add(assigned)
        examples.add(assigned)
        return assigned

    blocks = read_shard(config.shards, manifest.shards[number], manifest)
    outputs.write_assignments(config.output, number, len(manifest.shards), map(assign, blocks))
    return tally.arrays() | examples.arrays()


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

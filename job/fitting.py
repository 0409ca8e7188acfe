"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from job import loop, memory, outputs, publishing, workers
from job.checkpoint import Checkpoints, decode_state, encode_state, flag_of
from job.config import FitConfig
from job.dataset import Images
from job.interruption import on_sigterm
from job.loop import Fitted, Seconds, State
from job.observers import Follower, Leader
from job.replicas import Replicas, local_replicas
from job.report.result import read_metrics
from job.stream import StreamedImages
from pipeline import storage
from pipeline.errors import JobError, UserError
from pipeline.shards import Manifest, load_manifest
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
        fitted, spent = _fit(images, config, replicas, checkpoints, saved, quiet, clock)
        writing = clock()
        publishing.write_assignments(config, manifest, images.units, fitted, replicas, quiet)

    def seconds() -> dict[str, float]:
        return {"load": loaded - start, **spent._asdict(), "write": clock() - writing}

    result = {}
    if replicas.worker == 0:
        result = publishing.publish(config, manifest, images.units, fitted, replicas, seconds)
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
        return loop.fit(images, config, Follower(replicas), clock, state)
    with (
        contextlib.closing(outputs.History(config.output, lines)) as history,
        Progress("fit", None, "iterations", quiet) as progress,
    ):
        observer = Leader(replicas, images.num_images, config.k, history, progress, checkpoints)
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

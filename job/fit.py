"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from job import tensorboard as summaries
from job.callbacks import Draws, Ending, Observers, Recording
from job.checkpoint import Checkpoints, decode_state, encode_state, flag_of
from job.config import FitConfig
from job.distribute import workers
from job.distribute.preemption import on_sigterm
from job.distribute.replicas import Replicas, local_replicas
from job.images import memory
from job.images.protocol import Images
from job.images.resident import ResidentImages
from job.images.streamed import StreamedImages
from job.kmeans import loop
from job.kmeans.loop import Fitted, Seconds, State
from job.result.folder import CHECKPOINT, is_all_but_done, prepare_result
from job.result.publish import Publication, publish_assignments, publish_result
from job.result.read import read_metrics
from job.result.write import History
from job.tensorboard import Summaries
from pipeline import storage
from pipeline.errors import JobError, UserError
from pipeline.shards.manifest import Manifest, load_manifest
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
    return Session(config, quiet, clock).fit(config, overwrite, also)


class Session:
    """A set of images and the replicas that hold them, for one fit or several.

    Attributes:
      manifest: of the set.
      replicas: of this worker; all workers are there.
    """

    def __init__(self, config: FitConfig, quiet: bool, clock: Callable[[], float]):
        """Takes the config of the fit with the largest k; loads no image yet.

        Raises:
          UserError: an option or the shards are at fault.
        """
        self.manifest = load_manifest(config.shards)
        if config.k > self.manifest.num_images:
            count = self.manifest.num_images
            raise UserError(f"--k {config.k}: more clusters than the {count} images")
        summaries.check(config.tensorboard)
        self.replicas = _replicas(config, self.manifest)
        self._quiet, self._clock = quiet, clock
        self._images: Images | None = None
        self._draws = Draws()

    def fit(
        self, config: FitConfig, overwrite: bool = False, also: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """One fit, as `fit` does it; of several that of the largest k comes first."""
        start, clock, replicas = self._clock(), self._clock, self.replicas
        same = identity(config, self.manifest)
        shards = self.manifest.to_json().hex()
        agree(replicas, {**same, "shards": shards, "output": config.output})
        folder = storage.join(config.output, CHECKPOINT)
        checkpoints = Checkpoints(folder, same, config.checkpoint_seconds, clock)
        saved = _prepare(config, replicas, checkpoints, overwrite, also)
        if is_all_but_done(config.output):
            return _complete(config, replicas, read_metrics(config.output))
        with on_sigterm(replicas.ask_to_end, checkpoints.flush):
            images = self._load(config)
            loaded = clock()
            fitted, spent = self._fit(images, config, checkpoints, saved)
            writing = clock()
            publication = Publication(config, self.manifest, fitted, replicas)
            publish_assignments(publication, self._quiet)

        def seconds() -> dict[str, float]:
            return {"load": loaded - start, **spent._asdict(), "write": clock() - writing}

        result = {}
        if replicas.worker == 0:
            result = publish_result(publication, seconds)
        return _complete(config, replicas, result)

    def _load(self, config: FitConfig) -> Images:
        """The images, read by the first fit."""
        if self._images is None:
            fits = memory.fits(config, self.manifest, self.replicas)
            kind = ResidentImages if fits else StreamedImages
            self._images = kind(config.shards, self.manifest, self.replicas)
        self._images.forget_passes()
        return self._images

    def _fit(
        self,
        images: Images,
        config: FitConfig,
        checkpoints: Checkpoints,
        saved: tuple[State, bytes] | None,
    ) -> tuple[Fitted, Seconds]:
        """`loop.run_restarts`, with what worker 0 writes and shows of it."""
        state, lines = saved or (None, b"")
        drawn, ending = self._draws.by_restart, Ending(self.replicas)
        if self.replicas.worker != 0:
            callback = Observers(self._draws, ending)
            return loop.run_restarts(images, config, callback, self._clock, state, drawn)
        with contextlib.ExitStack() as stack:
            history = stack.enter_context(closing(History(config.output, lines)))
            progress = stack.enter_context(Progress("fit", None, "iterations", self._quiet))
            recording = Recording(images.num_images, config.k, history, progress, checkpoints)
            callback = Observers(self._draws, recording, *self._summaries(config, stack), ending)
            try:
                fitted = loop.run_restarts(images, config, callback, self._clock, state, drawn)
            except BaseException:
                # Whatever ends the fit, the next run goes on from its last iteration.
                with contextlib.suppress(UserError):
                    checkpoints.flush()
                raise
            checkpoints.flush()
            return fitted

    def _summaries(self, config: FitConfig, stack: contextlib.ExitStack) -> list[Summaries]:
        """The callback that writes them, if any; closed with `stack`."""
        if config.tensorboard is None:
            return []
        shape = self.manifest.image_shape
        made = Summaries(config.tensorboard, shape, config.restarts)
        return [stack.enter_context(closing(made))]


def _replicas(config: FitConfig, manifest: Manifest) -> Replicas:
    """The replicas of this worker, when all workers are there."""
    cluster = workers.parse(os.environ.get("TF_CONFIG"))
    workers.refuse_idle(cluster, len(manifest.shards))
    if cluster is not None:
        workers.wait_for_peers(cluster, config.start_timeout_seconds)
    with without_chatter():
        return local_replicas(config.replicas, cluster)


def agree(replicas: Replicas, values: dict[str, Any]) -> None:
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


def from_first(replicas: Replicas, make: Callable[[], bytes]) -> bytes:
    """The bytes that worker 0 makes, for all workers.

    Raises:
      UserError: of `make`, in worker 0; the others end with a JobError.
    """
    failure, data = None, b""
    if replicas.worker == 0:
        try:
            data = b"+" + make()
        except UserError as error:
            failure = error
    data = replicas.share(data)
    if failure is not None:
        raise failure
    if not data:
        raise JobError(f"{replicas.name(0)} could not start: its message says why")
    return data[1:]


def _prepare(
    config: FitConfig,
    replicas: Replicas,
    checkpoints: Checkpoints,
    overwrite: bool,
    also: tuple[str, ...],
) -> tuple[State, bytes] | None:
    """Makes the output folder ready; the state to go on from and its history, for all workers."""

    def ready() -> bytes:
        prepare_result(config.output, overwrite, also)
        saved = checkpoints.load()
        return b"" if saved is None else encode_state({}, *saved)

    data = from_first(replicas, ready)
    return decode_state(data)[1:] if data else None


def _complete(config: FitConfig, replicas: Replicas, result: dict[str, Any]) -> dict[str, Any]:
    """Removes the checkpoint of a complete result; worker 0's `result`, for all workers."""
    shared = replicas.share(json.dumps(result).encode())
    if replicas.worker == 0:
        storage.remove(storage.join(config.output, CHECKPOINT))
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

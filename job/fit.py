"""The command `fit` from end to end: shards → images → centroids → a result folder."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from job import tensorboard
from job.callbacks import Callbacks, Draws, Ending, Follower, Following, Recording
from job.checkpoint import Checkpoints, decode_state, encode_state, flag_of
from job.config import FitConfig
from job.distribute import cluster, workers
from job.distribute.agreement import check_same, made_by_first
from job.distribute.preemption import Guard, unguarded
from job.distribute.replicas import Replicas, local_replicas
from job.images import memory
from job.images.protocol import Images
from job.images.resident import ResidentImages
from job.images.streamed import StreamedImages
from job.kmeans import loop
from job.kmeans.loop import Callback, Fitted, Seconds, State
from job.monitoring import Figures, served
from job.result.folder import CHECKPOINT, is_all_but_done, prepare_result
from job.result.publish import Publication, publish_assignments, publish_result
from job.result.read import read_finished, read_metrics
from job.result.write import History
from pipeline import storage
from pipeline.config import NO_WEIGHTS
from pipeline.errors import UserError
from pipeline.options import decisive, recorded
from pipeline.shards.manifest import Manifest, load_manifest
from pipeline.terminal import Progress

logger = logging.getLogger(__name__)


def fit(
    config: FitConfig,
    also: tuple[str, ...] = (),
    clock: Callable[[], float] = time.monotonic,
    guard: Guard = unguarded,
    followers: Sequence[Follower] = (),
) -> dict[str, Any]:
    """Clusters the images of `config.shards` into the folder `config.output`.

    Resumes from the checkpoint of an earlier run of the same fit, if there is one. One of several
    workers that is started again when the fit is done, as schedulers do if it was lost at the very
    end, leaves it at that.

    Args:
      also: names that the output folder may hold besides a result.
      clock: seconds, monotonic.
      guard: what to do with signals meanwhile, e.g. `preemption.on_sigterm`.
      followers: a caller's callbacks; of several workers only number 0 calls them.

    Returns:
      What metrics.json says.

    Raises:
      UserError: an option, the shards or the output folder is at fault.
    """
    if done := done_by_workers(config, lambda: read_finished(config.output)):
        return done
    session = Session(config, clock, guard, followers)
    return session.run(session.settled(config), also)


class Session:
    """A set of images and the replicas that hold them, for one fit or several.

    Attributes:
      manifest: of the set; without weights that the fit ignores.
      replicas: of this worker; all workers are there.
    """

    def __init__(
        self,
        config: FitConfig,
        clock: Callable[[], float] = time.monotonic,
        guard: Guard = unguarded,
        followers: Sequence[Follower] = (),
        num_fits: int = 1,
    ):
        """Waits for the other workers; loads no image yet.

        Args:
          config: of the fit with the largest k.
          clock, guard, followers: as in `fit`.
          num_fits: how many there may be; then the images make room for what is published.

        Raises:
          UserError: an option or the shards are at fault.
        """
        self.manifest = load_manifest(config.shards)
        self._weight_column = weights_used(config, self.manifest)
        if self._weight_column == NO_WEIGHTS:
            self.manifest = dataclasses.replace(self.manifest, weights=None)
        if config.k > self.manifest.num_images:
            count = self.manifest.num_images
            raise UserError(f"--k {config.k}: more clusters than the {count} images")
        tensorboard.check(config.tensorboard)
        self.replicas = _join_workers(config, self.manifest)
        self._quiet = config.quiet or self.replicas.worker != 0
        self._clock, self._guard = clock, guard
        self._followers = followers if self.replicas.worker == 0 else ()
        self._images: Images | None = None
        self._draws, self._num_fits = Draws(), num_fits

    def settled(self, config: FitConfig) -> FitConfig:
        """Returns the config with the weights that are used, as the result records it."""
        return dataclasses.replace(config, weight_column=self._weight_column)

    def run(self, config: FitConfig, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """Does one fit, as `fit` does; of several that of the largest k comes first.

        Args:
          config: as `settled` returns it.
        """
        with contextlib.ExitStack() as stack:
            return self._run(config, also, stack)

    def _run(
        self, config: FitConfig, also: tuple[str, ...], stack: contextlib.ExitStack
    ) -> dict[str, Any]:
        """Does one fit; `stack` keeps the output folder locked."""
        start = self._clock()
        checkpoints = self._checkpoints(config)
        saved = _prepare(config, self.replicas, checkpoints, also, stack)
        if is_all_but_done(config.output):
            return _complete(config, self.replicas, read_metrics(config.output))
        following = Following(self._followers, self.replicas.num_workers)
        tell = stack.enter_context(following.fit(recorded(config)))
        with self._guard(self.replicas.ask_to_end, checkpoints.flush):
            self._load(config)
            loaded = self._clock()
            fitted, spent = self._find_centroids(config, checkpoints, saved, following)
            writing = self._clock()
            publication = Publication(
                config, self.manifest, fitted, self.replicas, following.stopped
            )
            publish_assignments(publication, self._quiet)

        def seconds() -> dict[str, float]:
            write = self._clock() - writing
            return {"load": loaded - start, **spent._asdict(), "write": write}

        result = _complete(config, self.replicas, publish_result(publication, seconds))
        tell(result)
        return result

    def _checkpoints(self, config: FitConfig) -> Checkpoints:
        """Opens the checkpoints of a fit, once all workers are known to do the same fit."""
        same = identity(config, self.manifest)
        named = {flag_of(name): value for name, value in same.items()}
        shards = self.manifest.to_json().hex()
        check_same(self.replicas, {**named, "--shards": shards, "--output": config.output})
        folder = storage.join(config.output, CHECKPOINT)
        return Checkpoints(folder, same, config.checkpoint_seconds, self._clock)

    def _load(self, config: FitConfig) -> None:
        """Reads the images, for the first fit."""
        if self._images is None:
            fits = memory.fits(config, self.manifest, self.replicas)
            logger.info("images are %s", "kept in memory" if fits else "read in every iteration")
            kind = ResidentImages if fits else StreamedImages
            self._images = kind(config.shards, self.manifest, self.replicas)
            if column := self.manifest.weight_column:
                with Progress("load", None, "images", self._quiet) as progress:
                    progress.update(self.manifest.num_images, f"weighted by {column}")

    def _find_centroids(
        self,
        config: FitConfig,
        checkpoints: Checkpoints,
        saved: tuple[State, bytes] | None,
        following: Following,
    ) -> tuple[Fitted, Seconds]:
        """Runs the loop on the images that are loaded; worker 0 also records it.

        Args:
          saved: the state to resume from and the history up to it.
        """
        state, lines = saved or (None, b"")
        images, self._num_fits = self._images, self._num_fits - 1
        assert images is not None
        with contextlib.ExitStack() as stack:
            callbacks: list[Callback] = [self._draws]
            if config.metrics_port is not None:
                callbacks.append(self._monitor(config.metrics_port, stack))
            if self.replicas.worker == 0:
                callbacks += self._recorders(config, checkpoints, lines, stack)
                callbacks.append(following)
            # Last, so that what the others keep of a state is kept before the fit ends there.
            callbacks.append(Ending(self.replicas))
            told, drawn = Callbacks(*callbacks), self._draws.by_restart
            found = loop.run_restarts(images, config, told, self._clock, state, drawn)
            images.forget_passes()
        if not self._num_fits:
            self._images = None
        return found

    def _monitor(self, port: int, stack: contextlib.ExitStack) -> Callback:
        """Serves the figures of this worker until `stack` is closed."""
        replicas = self.replicas
        figures = Figures(self.manifest.num_images, replicas.worker, replicas.num_workers)
        stack.enter_context(served(figures, port))
        return figures

    def _recorders(
        self,
        config: FitConfig,
        checkpoints: Checkpoints,
        lines: bytes,
        stack: contextlib.ExitStack,
    ) -> list[Callback]:
        """Opens what worker 0 writes and shows of the loop; `stack` closes it.

        Args:
          lines: the history so far.
        """
        stack.push(_flushing(checkpoints))
        history = stack.enter_context(closing(History(config.output, lines)))
        progress = stack.enter_context(Progress("fit", None, "iterations", self._quiet))
        recording = Recording(self.manifest.num_images, config.k, history, progress, checkpoints)
        recorders: list[Callback] = [recording]
        if config.tensorboard is not None:
            shape = self.manifest.image_shape
            summaries = tensorboard.Summaries(config.tensorboard, shape, config.restarts)
            recorders.append(stack.enter_context(closing(summaries)))
        return recorders


def done_by_workers(
    config: FitConfig, read: Callable[[], dict[str, Any] | None], **different: Any
) -> dict[str, Any] | None:
    """Returns what several workers have made of these very options and images; else None.

    Args:
      read: reads what says so, metrics.json or sweep.json; None where it is not complete.
      different: values that it keeps in place of the config's, by name.
    """
    if cluster.discover(config.cluster, os.environ) is None or config.overwrite:
        return None
    if (found := read()) is None:
        return None
    manifest = load_manifest(config.shards)
    used = dataclasses.replace(config, weight_column=weights_used(config, manifest))
    now = {**identity(used, manifest), **different}
    if "init_file" in now:
        return None  # its digest is not kept there: the file may have changed since
    kept = {**found["config"], "fingerprint": found["fingerprint"]}
    if any(kept.get(name) != value for name, value in now.items()):
        return None
    logger.info("%s: done by all workers before", config.output)
    return found


def _flushing(checkpoints: Checkpoints) -> Callable[..., None]:
    """Makes an exit function that writes the newest state, whatever has ended the loop.

    An error of that writing does not hide another error that is on its way.
    """

    def flush(kind: type[BaseException] | None, *_: Any) -> None:
        with contextlib.suppress(*([] if kind is None else [UserError])):
            checkpoints.flush()

    return flush


def _join_workers(config: FitConfig, manifest: Manifest) -> Replicas:
    """Makes the replicas of this worker, once all workers are there."""
    group = cluster.discover(config.cluster, os.environ)
    workers.refuse_idle(group, len(manifest.shards))
    if group is not None:
        workers.wait_for_peers(group, config.start_timeout_seconds)
    return local_replicas(config.replicas, group)


def _prepare(
    config: FitConfig,
    replicas: Replicas,
    checkpoints: Checkpoints,
    also: tuple[str, ...],
    stack: contextlib.ExitStack,
) -> tuple[State, bytes] | None:
    """Makes the output folder ready, and worker 0 locks it until `stack` is closed.

    Returns:
      The state to resume from and its history, for all workers; None to begin anew.
    """

    def ready() -> bytes:
        stack.enter_context(storage.locked(config.output))
        prepare_result(config.output, config.overwrite, also)
        saved = checkpoints.load()
        return b"" if saved is None else b"".join(encode_state({}, *saved))

    data = made_by_first(replicas, ready)
    if not data:
        return None
    _, state, history = decode_state(io.BytesIO(data))
    logger.info("resumes after restart %d, iteration %d", state.restart + 1, state.iteration)
    return state, history


def _complete(config: FitConfig, replicas: Replicas, result: dict[str, Any]) -> dict[str, Any]:
    """Removes the checkpoint of a complete result; worker 0's `result`, for all workers."""
    shared = replicas.broadcast(json.dumps(result).encode())
    if replicas.worker == 0:
        storage.remove(storage.join(config.output, CHECKPOINT))
    return json.loads(shared)


def weights_used(config: FitConfig, manifest: Manifest) -> str | None:
    """Returns the column whose weights count; NO_WEIGHTS if they are ignored, None if none is.

    Raises:
      UserError: the shards hold other weights than those that are asked for.
    """
    asked, column = config.weight_column, manifest.weight_column
    if asked not in (None, NO_WEIGHTS, column):
        held = "no weights" if column is None else f"the weights of {column}"
        raise UserError(
            f"--weight-column {asked}: {config.shards} holds {held}; shard again with "
            f"--weight-column {asked}"
        )
    return None if column is None else asked or column


def identity(config: FitConfig, manifest: Manifest) -> dict[str, Any]:
    """Returns what decides the bits of a result: a fit resumes only if all of it is equal.

    Where the shards lie and how many there are, replicas, workers and memory do not decide them.
    """
    values = decisive(config)
    if config.weight_column is not None:  # earlier versions did not know it
        values["weight_column"] = config.weight_column
    if config.init.endswith(".npy") and storage.is_file(config.init):
        values["init_file"] = hashlib.sha256(storage.read_bytes(config.init)).hexdigest()
    return {**values, "fingerprint": manifest.fingerprint}

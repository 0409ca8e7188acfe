"""Images that stay in their shards: every pass reads the pixels anew, chunk by chunk.

The norms and digests of all images, and the states of the algorithm, stay in memory.
"""

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from job.distribute.replicas import Replicas
from job.images import memory, places, rows
from job.images.disk_copy import DiskCopy
from job.images.frame import Extent, Frame, extent_from, find_frame, sample_of, with_quanta
from job.images.places import Place
from job.images.protocol import Pass, Step
from job.images.reader import Reader, Run, find_pixels, records
from job.images.weighted import rows_of
from pipeline import storage
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units, units_of

CHUNK_BYTES = 16 << 20
ALIGNED_ROWS = 64  # so that TensorFlow can use a chunk's part of a state without a copy


class Shares:
    """A tensor of a state: an array [n_r, …] for each replica."""

    def __init__(self, arrays: list[np.ndarray]):
        self.arrays = arrays


class StreamedImages:
    """Implements `Images` in 16 bytes an image, whose pixels are read in every pass."""

    copies: Any = None

    def __init__(self, folder: str, manifest: Manifest, replicas: Replicas):
        """Reads this worker's shards of `folder` once, to check them and to find their pixels.

        Raises:
          UserError: a shard is not the one the manifest describes, or a copy of remote shards does
            not fit the disk.
          InterruptedFit: this worker was asked to end.
        """
        self.num_features = manifest.num_features
        self.units: Units = units_of(np.dtype(manifest.dtype), manifest.num_features)
        self.precision = rows.common_precision(replicas)
        self._replicas, self._dtype = replicas, np.dtype(manifest.dtype)
        self._passes: dict[Any, Pass] = {}
        shares = rows.share_rows(manifest, replicas)
        self._counts = [stop - start for start, stop in shares]
        self._norms = [rows.empty_norms(count) for count in self._counts]
        self._kept = rows_of(manifest, self._counts)
        self._row_bytes = manifest.num_features * self._dtype.itemsize
        runs, extent = self._survey(self._on_disk(folder, manifest), manifest)
        self._take_over(self._kept)
        self._plan()
        rows.check_norms(folder, self._norms)
        self.frame = Frame.none(self.num_features)
        self._readers = self._readers_of(runs)
        if self._dtype != np.uint8:
            self._find_frame(folder, extent)
            self._readers = self._readers_of(runs)
        # At the latest when the interpreter exits, since no reading thread may call it after that.
        weakref.finalize(self, _close, self._readers)
        self.squared_norm_total = self.total(self._kept.by_image(self._norms))
        spare_bytes = memory.spare_row_bytes(sum(self._counts), 0)
        self.spare_row_bytes = rows.least_of_all(replicas, spare_bytes)

    def compile(self, step: Step, *options: Any) -> Pass:
        if (step, options) not in self._passes:
            run = self._replicas.compile_chunk(
                lambda images, state, shared: step(*images, state, shared, *options)
            )
            self._passes[step, options] = lambda state, shared: self._run(run, state, shared)
        return self._passes[step, options]

    def forget_passes(self) -> None:
        self._passes.clear()

    def state(self, make: Callable[[int], Any]) -> Any:
        parts = [make(count) for count in self._counts]
        return tf.nest.map_structure(lambda *arrays: Shares(list(arrays)), *parts)

    def local(self, state: Any) -> list[np.ndarray]:
        return self._kept.by_image(state.arrays)

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        return places.smallest(self._replicas, keys, count)

    def total(self, values: list[np.ndarray]) -> float:
        return rows.total(self._replicas, self._kept.weighed(values))

    def holds(self, place: Place) -> bool:
        return place.worker == self._replicas.worker

    def take(self, where: Sequence[Place]) -> np.ndarray:
        pixels = places.take(self._replicas, where, self._read, self.num_features)
        return pixels.astype(self._dtype)

    def _take_over(self, kept: rows.Rows) -> None:
        """Takes what the rows are to the algorithms, once all are surveyed."""
        kept.settle(self._replicas)
        self.num_images, self.digests = kept.num_images, kept.digests
        self.weights, self.weight_unit = kept.weights, kept.unit
        if kept.copies is not None:
            self.copies = Shares(kept.copies)

    def _on_disk(self, folder: str, manifest: Manifest) -> str:
        """Returns the folder to read this worker's shards from: a local copy of a remote one."""
        if storage.is_local(folder):
            return folder
        self._copy = DiskCopy(folder)  # removed together with these images
        shards = rows.own_shards(manifest, self._replicas)
        for _ in self._copy.add({shard.file: shard.num_bytes for shard in shards}):
            self._replicas.end_if_asked("while loading")
        return self._copy.folder

    def _survey(self, folder: str, manifest: Manifest) -> tuple[list[list[Run]], Extent]:
        """Reads norms, ids and weights of all images.

        Returns:
          Where each replica's pixels lie; the extent of this worker's images if they are float32.
        """
        runs: list[list[Run]] = [[] for _ in self._counts]
        extent = Extent.none(self.num_features)
        unread: Iterator[tuple[int, bytes]] = iter(())
        at, offset = ("", 0), 0
        for loaded in rows.blocks_by_replica(folder, manifest, self._replicas):
            r, own, path = loaded.replica, loaded.rows, storage.join(folder, loaded.shard.file)
            if at[0] != path:
                unread = records(path)
            if at != (path, loaded.number):  # a block divided among replicas comes several times
                at = (path, loaded.number)
                offset = find_pixels(loaded.block.pixels, *next(unread), path)
            self._norms[r][own] = rows.squared_pixel_norms(loaded.pixels)
            self._kept.add(loaded)
            begin = offset + loaded.part.start * self._row_bytes
            runs[r].append(Run(own.start, own.stop, path, begin))
            if self._dtype != np.uint8:
                self._kept.silence(r, own, self._norms[r][own])
                extent = extent.add(self._kept.counting(r, own, loaded.pixels))
        return runs, extent

    def _chunk_bytes(self) -> int:
        """Returns how many bytes of pixels a chunk has, about."""
        return CHUNK_BYTES

    def _plan(self) -> None:
        """Decides how many rows a chunk has."""
        chunk_rows = self._chunk_bytes() // self._row_bytes // ALIGNED_ROWS * ALIGNED_ROWS
        self._chunk_rows = max(chunk_rows, ALIGNED_ROWS)
        self._num_chunks = max(1, -(-max(self._counts) // self._chunk_rows))

    def _readers_of(self, runs: list[list[Run]]) -> list[Reader]:
        """Makes the readers of all replicas, whose pixels are those in the frame."""
        return [
            Reader(
                own,
                [self._rows(chunk, count) for chunk in range(self._num_chunks)],
                self.num_features,
                self._dtype,
                *([] if self._dtype == np.uint8 else [self._converting(replica)]),
            )
            for replica, (own, count) in enumerate(zip(runs, self._counts, strict=True))
        ]

    def _converting(self, replica: int) -> Callable[[slice, np.ndarray], np.ndarray]:
        """Makes what moves the pixels [m, d] of some rows into the frame."""
        kept, frame = self._kept, self.frame  # not self, which the readers must not keep alive

        def inside(own: slice, pixels: np.ndarray) -> np.ndarray:
            kept.silence(replica, own, pixels)
            moved = frame.inside(pixels)
            kept.silence(replica, own, moved)
            return moved

        return inside

    def _find_frame(self, folder: str, extent: Extent) -> None:
        """Finds the frame of float32 images, and moves the norms into it."""
        sample = functools.partial(
            sample_of, self._replicas, self.digests, self._read, self.num_features
        )

        def moved(origin: np.ndarray) -> tuple[Extent, np.ndarray]:
            chunks = (self._kept.counting(*each) for each in self._chunks())
            return extent_from(origin, chunks, self._replicas)

        frame, extent = find_frame(extent.of_all(self._replicas), sample, moved, folder)
        self.units = with_quanta(self.units, frame, extent, self.num_images)
        if frame.origin.any():
            for replica, own, pixels in self._chunks():
                inside = frame.inside(pixels)
                self._kept.silence(replica, own, inside)
                self._norms[replica][own] = rows.squared_pixel_norms(inside)
        else:
            for part in self._norms:
                part[:] = frame.scaled(part)
        self.frame = frame

    def _chunks(self) -> Iterator[tuple[int, slice, np.ndarray]]:
        """Reads all images of this worker once: (replica, rows, pixels [m, d])."""
        for replica, count in enumerate(self._counts):
            for chunk in range(self._num_chunks):
                own = self._rows(chunk, count)
                yield replica, own, self._readers[replica].read(own)

    def _run(self, step: Callable[..., tuple[list, list]], state: Any, shared: Any) -> tuple:
        """Runs one pass: calls `step`, made by `Replicas.compile_chunk`, on each chunk in turn."""
        totals: list[np.ndarray] = []
        fresh = None
        for reader in self._readers:
            reader.rewind()
        for chunk in range(self._num_chunks):
            if self._replicas.num_workers == 1:  # several workers end together, after the pass
                self._replicas.end_if_asked("amid a pass")
            own = [self._rows(chunk, count) for count in self._counts]
            pixels = [reader.next() for reader in self._readers]
            norms = [part[of] for part, of in zip(self._norms, own, strict=True)]
            images = self._replicas.place(list(zip(pixels, norms, strict=True)))
            before = self._replicas.place([_part(state, r, of) for r, of in enumerate(own)])
            after, partial = step(images, before, shared)
            fresh = _target(state, after[0], self._counts) if fresh is None else fresh
            for replica, of in enumerate(own):
                _store(fresh, replica, of, after[replica])
                totals = _added(totals, partial[replica])
        return fresh, self._replicas.all_reduce(totals) if totals else []

    def _rows(self, chunk: int, count: int) -> slice:
        """Returns the rows of a chunk; none where a replica of `count` images has no such chunk."""
        start = min(chunk * self._chunk_rows, count)
        return slice(start, min(start + self._chunk_rows, count))

    def _read(self, replica: int, where: list[int]) -> np.ndarray:
        """Reads pixels [m, d] of images of a replica of this worker."""
        reader, own = self._readers[replica], self._kept.of_images(replica, where)
        return np.concatenate([reader.read(slice(row, row + 1)) for row in own])


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()


def _part(state: Any, replica: int, rows: slice) -> Any:
    """Returns some rows of a replica's part of a state, as views."""
    return tf.nest.map_structure(lambda shares: shares.arrays[replica][rows], state)


def _target(state: Any, part: Any, counts: list[int]) -> Any:
    """Returns the state to store a new one in that is made of parts such as `part`.

    That is `state` itself if dtypes and shapes are the same.

    Args:
      counts: rows of each replica.
    """
    old, new = tf.nest.flatten(state), tf.nest.flatten(part)
    if len(old) == len(new) and all(
        (a.arrays[0].dtype, a.arrays[0].shape[1:]) == (b.dtype, b.shape[1:])
        for a, b in zip(old, new, strict=True)
    ):
        return state
    return tf.nest.map_structure(
        lambda array: Shares(
            [np.empty((count, *array.shape[1:]), array.dtype) for count in counts]
        ),
        part,
    )


def _store(state: Any, replica: int, rows: slice, part: Any) -> None:
    """Copies a chunk's part of a new state into `state`."""
    for shares, array in zip(tf.nest.flatten(state), tf.nest.flatten(part), strict=True):
        shares.arrays[replica][rows] = array


def _added(totals: list[np.ndarray], partial: list[np.ndarray]) -> list[np.ndarray]:
    """Adds `partial` to `totals`, in place; `totals` is empty before the first."""
    if not totals:
        return [np.array(part) for part in partial]
    for total, part in zip(totals, partial, strict=True):
        total += part
    return totals

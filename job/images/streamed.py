"""Images that stay in their shards: every pass reads the pixels anew.

What is known of an image, its norm, its digest and the state of the algorithm, stays in memory.
"""

import bisect
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job import hashing
from job.distribute.replicas import Step, aligned_empty
from job.images import memory
from job.images.disk_copy import DiskCopy
from job.images.resident import (
    Images,
    blocks_by_replica,
    empty_facts,
    own_shards,
    share_rows,
)
from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import row_width, stored
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards.manifest import Manifest

CHUNK_BYTES = 16 << 20
READS = 2  # chunks read at the same time, and as many ahead
ALIGNED_ROWS = 64  # so that a state's rows of a chunk begin where TensorFlow needs no copy


class Run(NamedTuple):
    """Images of a replica that lie one after the other in a file.

    Attributes:
      start, stop: rows of the replica.
      path: of the file.
      offset: of the first image's pixels, in bytes.
    """

    start: int
    stop: int
    path: str
    offset: int


class Shares:
    """A state: an array [n_r, …] for each replica."""

    def __init__(self, arrays: list[np.ndarray]):
        self.arrays = arrays


class StreamedImages(Images):
    """Like Images, in 16 bytes an image."""

    def state(self, make: Callable[[int], Any]) -> Any:
        parts = [make(len(part)) for part in self.digests]
        return tf.nest.map_structure(lambda *arrays: Shares(list(arrays)), *parts)

    def local(self, state: Any) -> list[np.ndarray]:
        return state.arrays

    def _load(self, folder: str, manifest: Manifest) -> list[np.ndarray]:
        folder = self._on_disk(folder, manifest)
        self._dtype = np.dtype(manifest.dtype)
        self._row_bytes = manifest.num_features * self._dtype.itemsize
        counts = [stop - start for start, stop in share_rows(manifest, self._replicas)]
        facts = [empty_facts(count) for count in counts]
        self._norms = [norms for norms, _ in facts]
        self.digests = [digests for _, digests in facts]
        self._runs: list[list[Run]] = [[] for _ in counts]
        records: Iterator[tuple[int, bytes]] = iter(())
        at, offset = ("", 0), 0
        for loaded in blocks_by_replica(folder, manifest, self._replicas):
            r, rows, path = loaded.replica, loaded.rows, storage.join(folder, loaded.shard.file)
            pixels = loaded.block.pixels
            if at[0] != path:
                records = _records(path)
            if at != (path, loaded.number):
                at, offset = (path, loaded.number), _find(pixels, *next(records), path)
            part = pixels[loaded.part]
            self._norms[r][rows] = squared_pixel_norms(part)
            self.digests[r][rows] = hashing.digests(loaded.block.ids[loaded.part])
            begin = offset + loaded.part.start * self._row_bytes
            self._runs[r].append(Run(rows.start, rows.stop, path, begin))
        self._plan(counts)
        return self._norms

    def _on_disk(self, folder: str, manifest: Manifest) -> str:
        """Where this worker's shards can be read often: a copy of `folder`, if it is remote."""
        if storage.is_local(folder):
            return folder
        self._copy = DiskCopy(folder)
        shards = own_shards(manifest, self._replicas)
        for _ in self._copy.add({shard.file: shard.num_bytes for shard in shards}):
            self._replicas.end_if_asked("while loading")
        return self._copy.folder

    def _plan(self, counts: list[int]) -> None:
        """Decides how many rows are a chunk, and prepares to read them."""
        rows = CHUNK_BYTES // self._row_bytes // ALIGNED_ROWS * ALIGNED_ROWS
        self._chunk_rows = max(rows, ALIGNED_ROWS)
        self._num_chunks = max(1, -(-max(counts) // self._chunk_rows))
        self._readers = [
            Reader(
                runs,
                [self._rows(chunk, count) for chunk in range(self._num_chunks)],
                self.num_features,
                self._dtype,
            )
            for runs, count in zip(self._runs, counts, strict=True)
        ]
        # At the latest when the interpreter ends: then no thread may still want to enter it.
        weakref.finalize(self, _close, self._readers)

    def _spare_row_bytes(self) -> int:
        return memory.spare_row_bytes(sum(map(len, self.digests)), 0)

    def _compile(self, step: Step) -> Callable[[Any, Any], tuple[Any, list]]:
        run = self._replicas.compile_chunk(step)

        def over_chunks(state: Any, shared: Any) -> tuple[Any, list]:
            totals: list[np.ndarray] = []
            fresh = None
            for reader in self._readers:
                reader.rewind()
            for chunk in range(self._num_chunks):
                if self._replicas.num_workers == 1:  # several end together, after the pass
                    self._replicas.end_if_asked("amid a pass")
                rows = [self._rows(chunk, len(part)) for part in self.digests]
                images = self._replicas.place(
                    [
                        (reader.next(), norms[own])
                        for reader, norms, own in zip(self._readers, self._norms, rows, strict=True)
                    ]
                )
                before = self._replicas.place(
                    [_part(state, replica, own) for replica, own in enumerate(rows)]
                )
                after, partial = run(images, before, shared)
                fresh = _target(state, after[0], self.digests) if fresh is None else fresh
                for replica, own in enumerate(rows):
                    _store(fresh, replica, own, after[replica])
                    totals = _added(totals, partial[replica])
            return fresh, self._replicas.sum(totals) if totals else []

        return over_chunks

    def _rows(self, chunk: int, count: int) -> slice:
        """The rows of a chunk, none where the replica has no such chunk."""
        start = min(chunk * self._chunk_rows, count)
        return slice(start, min(start + self._chunk_rows, count))

    def _pixels(self, replica: int, rows: list[int]) -> np.ndarray:
        reader = self._readers[replica]
        return np.concatenate([reader.read(slice(row, row + 1)) for row in rows])


class Reader:
    """The chunks of a replica's images in order, again and again, read ahead of their use.

    TensorFlow's threads call Python to read. They must have returned before a dataset's iterator
    goes: whoever drops it holds the lock that they would wait for.
    """

    def __init__(self, runs: list[Run], chunks: list[slice], num_features: int, dtype: np.dtype):
        """Takes the runs of all rows, in order, and the rows of each chunk."""
        self._runs, self._chunks = runs, chunks
        self._num_features, self._dtype = num_features, dtype
        self._failure: UserError | None = None
        self._closed = False
        self._taken = 0
        self._pass: Iterator | None = None

    def next(self) -> tf.Tensor:
        """Pixels [m, d], as `stored`, of the next chunk; after the last one comes the first.

        Raises:
          UserError: its file cannot be read any more.
        """
        if self._pass is None:
            self._pass = self._start()
        pixels = next(self._pass)
        self._taken = (self._taken + 1) % len(self._chunks)
        if self._failure is not None:
            self._taken = -1  # amid a pass
            raise self._failure
        if self._taken == 0:
            next(self._pass, None)  # its end
            # The first chunks of the next pass are read while this one's last are computed.
            self._pass = self._start()
        return pixels

    def rewind(self) -> None:
        """Makes the first chunk the next one, where a pass was left before its end."""
        if self._taken:
            self.close()
            self._closed, self._taken = False, 0

    def close(self) -> None:
        """Reads no more."""
        self._closed = True
        while self._pass is not None:
            # Whoever happens to collect the garbage may be tracing a graph.
            with tf.init_scope():
                if next(self._pass, None) is None:
                    self._pass = None

    def read(self, rows: slice) -> np.ndarray:
        """Pixels of `rows`; [m, d]."""
        pixels = aligned_empty((rows.stop - rows.start, self._num_features), self._dtype.name)
        row_bytes = self._num_features * self._dtype.itemsize
        first = bisect.bisect_right(self._runs, rows.start, key=lambda run: run.stop)
        for run in itertools.islice(self._runs, first, None):
            if run.start >= rows.stop:
                break
            a, b = max(run.start, rows.start), min(run.stop, rows.stop)
            target = pixels[a - rows.start : b - rows.start].data.cast("B")
            storage.read_into(run.path, run.offset + (a - run.start) * row_bytes, target)
        return pixels

    def _start(self) -> Iterator:
        """One pass."""

        def read(chunk: np.ndarray) -> np.ndarray:
            rows = slice(0, 0) if self._closed or self._failure else self._chunks[chunk]
            try:
                return stored(self.read(rows))
            except UserError as error:
                self._failure = error  # `next` raises it, in the thread that can handle it
                return stored(self.read(slice(0, 0)))

        def pixels(chunk: tf.Tensor) -> tf.Tensor:
            read_pixels = tf.numpy_function(read, [chunk], self._dtype)
            return tf.ensure_shape(read_pixels, [None, row_width(self._num_features, self._dtype)])

        chunks = tf.data.Dataset.range(len(self._chunks))
        options = tf.data.Options()
        options.experimental_warm_start = True
        options.autotune.enabled = False  # nothing is left to it
        return iter(
            chunks.map(pixels, num_parallel_calls=READS, deterministic=True)
            .prefetch(READS)
            .with_options(options)
        )


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()


def _records(path: str) -> Iterator[tuple[int, bytes]]:
    """(where its data begin, its data) of each record of a shard that is known to be whole."""
    offset = 12
    with storage.open_read(path) as file:
        while head := file.read(12):
            data = file.read(int.from_bytes(head[:8], "little"))
            file.read(4)
            yield offset, data
            offset += len(data) + 16


def _find(pixels: np.ndarray, offset: int, data: bytes, path: str) -> int:
    """Where in the file the pixels of a block lie, whose record's `data` begin at `offset`."""
    wanted = pixels.tobytes()
    place = data.find(wanted[:64])
    while place >= 0 and data[place : place + len(wanted)] != wanted:
        place = data.find(wanted[:64], place + 1)
    if place < 0:
        raise UserError(f"{path}: altered while it was read; shard the set again")
    return offset + place


def _part(state: Any, replica: int, rows: slice) -> Any:
    return tf.nest.map_structure(lambda shares: shares.arrays[replica][rows], state)


def _target(state: Any, part: Any, digests: list[np.ndarray]) -> Any:
    """Where to store a new state of the form of `part`: in `state` if that has its form."""
    old, new = tf.nest.flatten(state), tf.nest.flatten(part)
    if len(old) == len(new) and all(
        (a.arrays[0].dtype, a.arrays[0].shape[1:]) == (b.dtype, b.shape[1:])
        for a, b in zip(old, new, strict=True)
    ):
        return state
    return tf.nest.map_structure(
        lambda array: Shares(
            [np.empty((len(share), *array.shape[1:]), array.dtype) for share in digests]
        ),
        part,
    )


def _store(state: Any, replica: int, rows: slice, part: Any) -> None:
    for shares, array in zip(tf.nest.flatten(state), tf.nest.flatten(part), strict=True):
        shares.arrays[replica][rows] = array


def _added(totals: list[np.ndarray], partial: list[np.ndarray]) -> list[np.ndarray]:
    if not totals:
        return [np.array(part) for part in partial]
    return [total + part for total, part in zip(totals, partial, strict=True)]

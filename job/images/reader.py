"""Reads a replica's pixels from its shards chunk by chunk, ahead of their use."""

import bisect
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.kmeans.blocks import aligned_empty, row_width, stored
from pipeline import storage
from pipeline.errors import UserError

READS = 2  # chunks that are read at the same time, and as many that wait to be used


class Run(NamedTuple):
    """Images of a replica whose pixels follow each other in a file.

    Attributes:
      start, stop: their rows in the replica.
      path: of the file.
      offset: of the first image's pixels, in bytes.
    """

    start: int
    stop: int
    path: str
    offset: int


class Reader:
    """Reads the chunks of a replica's images in order, pass after pass, ahead of their use.

    The reading threads are TensorFlow's, and call Python. They must have returned before the
    dataset's iterator is deleted: the deleting thread holds Python's global lock and waits for
    them, while they wait for the lock. So every pass is read to its end, and `close` must be
    called.
    """

    def __init__(
        self,
        runs: list[Run],
        chunks: list[slice],
        num_features: int,
        dtype: np.dtype,
        convert: Callable[[slice, np.ndarray], np.ndarray] = lambda rows, pixels: pixels,
    ):
        """Args:
        runs: of all rows, in order.
        chunks: the rows of each.
        convert: (rows, their pixels [m, d] as the files have them) → pixels to return, of the same
          dtype.
        """
        self._runs, self._chunks, self._convert = runs, chunks, convert
        self._num_features, self._dtype = num_features, dtype
        self._failure: UserError | None = None
        self._closed = False
        self._taken = 0  # chunks of the current pass that were returned; −1: the pass failed
        self._pass: Iterator | None = None

    def next(self) -> tf.Tensor:
        """Pixels [m, d], as `stored`, of the next chunk; after the last one comes the first.

        Raises:
          UserError: a file cannot be read any more.
        """
        if self._pass is None:
            self._pass = self._start()
        pixels = next(self._pass)
        self._taken = (self._taken + 1) % len(self._chunks)
        if self._failure is not None:
            self._taken = -1
            raise self._failure
        if self._taken == 0:
            next(self._pass, None)  # reads the end of the dataset, so that its threads return
            # The next pass's first chunks are read while the algorithm computes with the last one.
            self._pass = self._start()
        return pixels

    def rewind(self) -> None:
        """Begins a new pass, so that the next chunk is the first, if one was left unfinished."""
        if self._taken:
            self.close()
            self._closed, self._taken = False, 0

    def close(self) -> None:
        """Stops reading, and waits until TensorFlow's threads have returned."""
        self._closed = True
        while self._pass is not None:
            # The garbage collector may call this while a graph is traced, which this must not join.
            with tf.init_scope():
                if next(self._pass, None) is None:
                    self._pass = None

    def read(self, rows: slice) -> np.ndarray:
        """Reads the pixels of `rows`, now; [m, d]."""
        pixels = aligned_empty((rows.stop - rows.start, self._num_features), self._dtype.name)
        row_bytes = self._num_features * self._dtype.itemsize
        first = bisect.bisect_right(self._runs, rows.start, key=lambda run: run.stop)
        for run in itertools.islice(self._runs, first, None):
            if run.start >= rows.stop:
                break
            a, b = max(run.start, rows.start), min(run.stop, rows.stop)
            target = pixels[a - rows.start : b - rows.start].data.cast("B")
            storage.read_into(run.path, run.offset + (a - run.start) * row_bytes, target)
        return self._convert(rows, pixels)

    def _start(self) -> Iterator:
        """Starts to read one pass."""

        def read(chunk: np.ndarray) -> np.ndarray:
            rows = slice(0, 0) if self._closed or self._failure else self._chunks[chunk]
            try:
                return stored(self.read(rows))
            except UserError as error:
                # `next` raises it: raised here, TensorFlow would turn it into an error of its own.
                self._failure = error
                return stored(self.read(slice(0, 0)))

        def pixels(chunk: tf.Tensor) -> tf.Tensor:
            read_pixels = tf.numpy_function(read, [chunk], self._dtype)
            return tf.ensure_shape(read_pixels, [None, row_width(self._num_features, self._dtype)])

        chunks = tf.data.Dataset.range(len(self._chunks))
        options = tf.data.Options()
        options.experimental_warm_start = True
        options.autotune.enabled = False  # it has no number left to choose
        return iter(
            chunks.map(pixels, num_parallel_calls=READS, deterministic=True)
            .prefetch(READS)
            .with_options(options)
        )


def records(path: str) -> Iterator[tuple[int, bytes]]:
    """Reads each record of a whole TFRecord file: (offset of its data in bytes, its data)."""
    # length uint64, its checksum uint32, data, their checksum uint32
    offset = 12
    with storage.open_read(path) as file:
        while head := file.read(12):
            data = file.read(int.from_bytes(head[:8], "little"))
            file.read(4)
            yield offset, data
            offset += len(data) + 16


def find_pixels(pixels: np.ndarray, offset: int, data: bytes, path: str) -> int:
    """Finds where in the file the pixels of a block lie.

    In a serialized record, that depends on the order of its fields, which no format promises. So
    the pixels are searched for by their first bytes.

    Args:
      offset, data: of the block's record, as `records` returns them.
      path: of the file, for the error.

    Raises:
      UserError: the record does not hold these pixels.
    """
    wanted = pixels.tobytes()
    place = data.find(wanted[:64])
    while place >= 0 and data[place : place + len(wanted)] != wanted:
        place = data.find(wanted[:64], place + 1)
    if place < 0:
        raise UserError(f"{path}: altered while it was read; shard the set again")
    return offset + place

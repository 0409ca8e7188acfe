"""Images of an array in memory, as the algorithms see them: no file is written or read."""

import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from job import hashing
from job.distribute.replicas import Replicas, local_replicas
from job.images import rows
from job.images.frame import Extent
from job.images.protocol import Pass, Step
from job.images.reader import Reader, Run
from job.images.resident import ResidentImages, usable
from job.images.streamed import StreamedImages
from job.kmeans.blocks import aligned_empty, row_width
from job.kmeans.precision import Precision
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.shards.manifest import Manifest, SeenWeights, Shard, WeightsEntry

# What messages call the array.
NAME = "X"
# Rows have the ids that they have in shards made of a .npy file, so that a fit has the same bits.
PREFIX = "train"
# A state may take LITTLE_BYTES, or STATE_SHARE of the array's bytes if that is more: beside a large
# array that is used where it lies, a fit takes little. A screen would save a tenth of the time.
LITTLE_BYTES, STATE_SHARE = 8 << 20, 0.02
# On CPUs, an array of more bytes than this is passed over chunk by chunk: what a pass keeps beside
# it is then small, and bytes that TensorFlow cannot use where they lie are copied chunk by chunk.
MOST_WHOLE_BYTES = 64 << 20
# A chunk has this share of the array's bytes, within the limits.
CHUNK_SHARE, LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 / 16, 4 << 20, 64 << 20
# So many sets of graphs are kept.
KEPT_GRAPHS = 8


class Graphs:
    """Passes that are traced once for many arrays: that takes longer than most fits.

    Attributes:
      replicas: that run the passes.
    """

    def __init__(self, replicas: Replicas):
        self.replicas = replicas
        self._passes: dict[Any, Callable] = {}

    def compile(self, step: Step, options: tuple) -> Callable:
        """Makes of a step what `Replicas.compile` makes."""
        if (step, options) not in self._passes:
            self._passes[step, options] = self.replicas.compile(
                lambda images, state, shared: step(*images, state, shared, *options)
            )
        return self._passes[step, options]


def graphs_of(count: int | None, k: int, pixels: np.ndarray) -> Graphs:
    """Returns the graphs of fits with `count` replicas and k clusters of arrays such as `pixels`.

    Raises:
      UserError: there are not so many devices.
    """
    precision = local_replicas(count).precision  # the process may have changed it meanwhile
    return _kept_graphs(count, precision, k, pixels.shape[1], pixels.dtype == np.uint8)


@functools.lru_cache(KEPT_GRAPHS)
def _kept_graphs(
    count: int | None, precision: Precision, k: int, num_features: int, are_bytes: bool
) -> Graphs:
    """Makes graphs that serve arrays which differ in the number of rows alone."""
    return Graphs(local_replicas(count))


class ArrayImages(ResidentImages):
    """Implements `Images` with the rows of an array; uint8 is used where it lies."""

    def __init__(
        self,
        pixels: np.ndarray,
        graphs: Graphs,
        origin: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ):
        """Takes the array as it is: it must not change while these images are used.

        Args:
          pixels: uint8, float32 or float64 [n, d], in C's order; float64 is rounded to float32.
          graphs: of such arrays.
          origin: float64 [d], subtracted from float64 before it is rounded.
          weights: of the rows, float64 [n]; None: all 1.

        Raises:
          UserError: float32 cannot hold a value, or cannot tell such images apart.
        """
        self._graphs = graphs
        # An alias does not keep the memory alive, this reference does.
        self._lying = pixels
        dtype = "uint8" if pixels.dtype == np.uint8 else "float32"

        def read(name: str, shard: Shard, manifest: Manifest) -> Iterator[Block]:
            for start, stop in plan.spans(0, *_rows_and_block(pixels)):
                part = pixels[start:stop]
                if part.dtype == np.float64:
                    part = to_float32(part, origin)
                own = None if weights is None else weights[start:stop]
                yield Block(numbered_ids(PREFIX, start, stop), None, part, weights=own)

        alias = _writeable(pixels) if dtype == "uint8" else None
        manifest = _manifest(pixels, dtype, weights)
        super().__init__(NAME, manifest, graphs.replicas, read, alias)
        self.spare_row_bytes = min(self.spare_row_bytes, _most_row_bytes(pixels))

    def compile(self, step: Step, *options: Any) -> Pass:
        run = self._graphs.compile(step, options)
        return lambda state, shared: run(self._images, state, shared)


class StreamedArray(StreamedImages):
    """Implements `Images` with the rows of a large array of bytes, chunk by chunk."""

    def __init__(self, pixels: np.ndarray, graphs: Graphs):
        """Takes uint8 [n, d] as it is: it must not change while these images are used."""
        self._lying = _writeable(pixels)
        super().__init__(NAME, _manifest(pixels, "uint8"), graphs.replicas)
        self.spare_row_bytes = min(self.spare_row_bytes, _most_row_bytes(pixels))

    def _survey(self, folder: str, manifest: Manifest) -> tuple[list[list[Run]], Extent]:
        shares = rows.share_rows(manifest, self._replicas)
        self._shares = [self._lying[start:stop] for start, stop in shares]
        for r, (share, (first, _)) in enumerate(zip(self._shares, shares, strict=True)):
            for start, stop in plan.spans(0, *_rows_and_block(share)):
                self._norms[r][start:stop] = rows.squared_pixel_norms(share[start:stop])
                ids = numbered_ids(PREFIX, first + start, first + stop)
                self._kept.digests[r][start:stop] = hashing.digests(ids)
        return [[] for _ in shares], Extent.none(manifest.num_features)

    def _chunk_bytes(self) -> int:
        wanted = int(CHUNK_SHARE * self._lying.nbytes)
        return min(max(wanted, LEAST_CHUNK_BYTES), MOST_CHUNK_BYTES)

    def _readers_of(self, runs: list[list[Run]]) -> list[Reader]:
        chunks = range(self._num_chunks)
        return [
            ArrayReader(share, [self._rows(chunk, len(share)) for chunk in chunks])
            for share in self._shares
        ]


class ArrayReader(Reader):
    """Returns the chunks of an array of bytes in memory: as they lie, or in a buffer."""

    def __init__(self, pixels: np.ndarray, chunks: list[slice]):
        """Takes the array [n, d], and the rows of each chunk."""
        super().__init__([], chunks, pixels.shape[1], pixels.dtype)
        self._pixels = pixels
        width = row_width(pixels.shape[1], pixels.dtype)
        self._buffer: np.ndarray | None = None
        if usable(pixels, width) is None:
            most = max(chunk.stop - chunk.start for chunk in chunks)
            self._buffer = aligned_empty((most, width), pixels.dtype.name)
            self._buffer[:] = 0

    def next(self) -> np.ndarray:
        """Returns the next chunk, [m, width]; it stays as it is until the one after it."""
        chunk = self._pixels[self._chunks[self._taken]]
        self._taken = (self._taken + 1) % len(self._chunks)
        if self._buffer is None:
            return chunk
        own = self._buffer[: len(chunk)]
        own[:, : self._num_features] = chunk
        return own

    def read(self, rows: slice) -> np.ndarray:
        return self._pixels[rows]


def array_images(
    pixels: np.ndarray, graphs: Graphs, origin: np.ndarray | None = None
) -> ArrayImages | StreamedArray:
    """Makes the images of an array, with as little memory as it allows; see `ArrayImages`."""
    is_large = pixels.dtype == np.uint8 and pixels.nbytes > MOST_WHOLE_BYTES
    if is_large and not tf.config.list_logical_devices("GPU"):
        return StreamedArray(pixels, graphs)
    return ArrayImages(pixels, graphs, origin)


def to_float32(values: np.ndarray, origin: np.ndarray | None) -> np.ndarray:
    """Rounds float64 [n, d], less `origin` [d], to float32.

    Raises:
      UserError: float32 cannot hold a value.
    """
    moved = values if origin is None else values - origin
    with np.errstate(over="ignore"):
        made = moved.astype(np.float32)
    if (lost := np.isinf(made)).any():
        raise UserError(
            f"{NAME}: a value of {values[lost][0]:.3g}, which float32 cannot hold; divide the "
            "array by its largest value"
        )
    return made


def _most_row_bytes(pixels: np.ndarray) -> int:
    """Returns how many bytes a state may take for each row of an array."""
    return int(max(LITTLE_BYTES, STATE_SHARE * pixels.nbytes) / len(pixels))


def _rows_and_block(pixels: np.ndarray) -> tuple[int, int]:
    """Returns how many rows there are, and how many make a block."""
    return len(pixels), plan.images_per_block(pixels[0].nbytes)


def weights_entry(weights: np.ndarray) -> WeightsEntry:
    """Describes the weights of an array, float64 [n]."""
    return WeightsEntry("sample_weight", *SeenWeights.of(weights))


def _manifest(pixels: np.ndarray, dtype: str, weights: np.ndarray | None = None) -> Manifest:
    """Describes the array as if it were one shard."""
    num_images, num_features = pixels.shape
    return Manifest(
        image_shape=(num_features,),
        num_features=num_features,
        dtype=dtype,
        num_images=num_images,
        label_names=None,
        shards=(Shard(NAME, num_images, pixels.nbytes, ""),),
        num_rejected=0,
        source={},
        fingerprint="",
        weights=None if weights is None else weights_entry(weights),
    )


def _writeable(pixels: np.ndarray) -> np.ndarray:
    """Returns an array of the same memory that is not marked as read-only.

    Nobody writes to images of bytes, but read-only memory, as that of a file that is mapped, cannot
    be handed to TensorFlow.
    """
    if pixels.flags.writeable or not pixels.size:
        return pixels
    memory = (ctypes.c_uint8 * pixels.nbytes).from_address(pixels.ctypes.data)
    return np.ctypeslib.as_array(memory).reshape(pixels.shape)

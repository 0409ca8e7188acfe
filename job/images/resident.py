"""What the algorithm sees of the data: how many images, how wide, a pass over all, a few rows."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job import hashing
from job.distribute.replicas import Replicas, Step, aligned_empty
from job.images import memory
from job.images.rows import squared_pixel_norms
from job.kmeans.blocks import row_width, stored, take
from pipeline.errors import UserError
from pipeline.shards.block import Block, read_shard
from pipeline.shards.manifest import Manifest, Shard
from pipeline.shards.pixel_scale import Units, units_of

MAX_SQUARED_NORM = 1e36  # pixels²; distances between such images still fit float32


class Place(NamedTuple):
    """Where an image lies: its worker, its replica there, its row there."""

    worker: int
    replica: int
    row: int


class Images:
    """All images of a set, resident in the memory of their replicas.

    Shard i belongs to worker i mod W. Replica r of a worker's R holds its images
    n·r/R … n·(r + 1)/R − 1, in the order of the shards. No result depends on that.

    Attributes:
      num_images: n, of all workers.
      num_features: d.
      units: of the pixels.
      squared_norm_total: Σ‖x‖² of all workers' images, pixels²; an exact integer for uint8.
      precision: of float32 products on the replicas.
      digests: of the ids, uint64 [n_r] for each replica r of this worker.
      spare_row_bytes: what a state may take for each image, the same in all workers.
    """

    def __init__(self, folder: str, manifest: Manifest, replicas: Replicas):
        """Loads this worker's shards of `folder`.

        Raises:
          UserError: a shard is not the one the manifest describes.
          InterruptedFit: this worker was asked to end.
        """
        self.num_images, self.num_features = manifest.num_images, manifest.num_features
        self.units: Units = units_of(np.dtype(manifest.dtype), manifest.num_features)
        self.precision = replicas.precision
        self._replicas = replicas
        self._passes: dict[Any, Callable] = {}
        norms = self._load(folder, manifest)
        largest = max((float(part.max()) for part in norms if part.size), default=0.0)
        if largest > MAX_SQUARED_NORM:
            raise UserError(
                f"{folder}: an image of norm {math.sqrt(largest):.3g}, whose distances float32 "
                "cannot hold; divide the images by their largest value"
            )
        total = np.array(float(sum(part.sum() for part in norms)))
        self.squared_norm_total = float(replicas.sum([total])[0])
        # What one worker has no memory for, none does: they sum tensors of one shape.
        self.spare_row_bytes = int(replicas.gather(np.array(self._spare_row_bytes())).min())

    def compile(self, step: Step, *options: Any) -> Callable[[Any, Any], tuple[Any, list]]:
        """A pass over all images: (state, shared) → (state, totals).

        Args:
          step: (images [n_r, d] as `stored`, ‖x‖² float64 [n_r], state, shared, *options) →
            (state, partial sums); a function of a module, so that its graph is traced once for
            these images. It treats every image alike, and its states have a row for each image.
          options: hashable.

        The state that is passed in is used up if the new one has its form.
        """
        if (step, options) not in self._passes:
            self._passes[step, options] = self._compile(
                lambda images, state, shared: step(*images, state, shared, *options)
            )
        return self._passes[step, options]

    def forget_passes(self) -> None:
        """Drops the graphs of passes: those of a fit do not suit one with another k."""
        self._passes.clear()

    def state(self, make: Callable[[int], Any]) -> Any:
        """A state for `compile`d passes: what `make` returns for the count of each replica."""
        return self._replicas.place([make(len(part)) for part in self.digests])

    def local(self, state: Any) -> list[np.ndarray]:
        """A state that is one tensor, as numpy arrays in the order of `digests`."""
        return [part.numpy() for part in self._replicas.parts(state)]

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        """(*keys, Place) of the `count` images of all workers with the smallest keys, in order.

        Args:
          keys: the first key, then those that decide between equal ones; each [n_r] per replica.
          count: how many; fewer are returned where there are not that many images.
        """
        mine = self._smallest(keys, count)
        if self._replicas.num_workers == 1:
            return mine
        # Bits of numbers, whatever their type: a slot for each of the worker's candidates.
        dtypes = [key[0].dtype for key in keys]
        bits = np.full((len(keys) + 3, count), -1, np.int64)
        for column, (*values, place) in enumerate(mine):
            words = [np.array(v, t) for v, t in zip(values, dtypes, strict=True)]
            bits[:-3, column] = [_wide(word).view(np.int64) for word in words]
            bits[-3:, column] = place
        found = []
        for worker in self._replicas.gather(bits):
            columns = [_narrow(w, t) for w, t in zip(worker[:-3], dtypes, strict=True)]
            places = [Place(*map(int, place)) for place in worker[-3:].T]
            rows = zip(*columns, places, strict=True)
            found += [row for row in rows if row[-1].worker >= 0]
        return sorted(found)[:count]

    def _smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        """`smallest` of this worker's images."""
        candidates: list[tuple] = []
        for replica, first in enumerate(keys[0]):
            rows = np.arange(len(first))
            if len(first) > count:
                # All that might be among the smallest; equal ones are sorted out below.
                rows = np.flatnonzero(first <= np.partition(first, count - 1)[count - 1])
            columns = [key[replica][rows] for key in keys]
            order = np.lexsort(columns[::-1])[:count]
            places = [Place(self._replicas.worker, replica, row) for row in rows[order].tolist()]
            candidates += zip(*(column[order] for column in columns), places, strict=True)
        return sorted(candidates)[:count]

    def holds(self, place: Place) -> bool:
        """Whether the image lies in this worker."""
        return place.worker == self._replicas.worker

    def take(self, places: Sequence[Place]) -> np.ndarray:
        """Pixels of the images at `places`, of any worker, in the set's dtype; [m, d]."""
        pixels = np.zeros((len(places), self.num_features))
        for replica in range(self._replicas.count):
            mine = [n for n, p in enumerate(places) if self.holds(p) and p.replica == replica]
            if mine:
                pixels[mine] = self._pixels(replica, [places[n].row for n in mine])
        return self._replicas.sum([pixels])[0].astype(self._dtype)

    def _load(self, folder: str, manifest: Manifest) -> list[np.ndarray]:
        """Sets `digests`; ‖x‖² of the images of each replica."""
        self._dtype = np.dtype(manifest.dtype)
        shares, width = [], row_width(manifest.num_features, self._dtype)
        for start, stop in share_rows(manifest, self._replicas):
            pixels = aligned_empty((stop - start, width), manifest.dtype)
            shares.append(Share(pixels, *empty_facts(stop - start)))
        for loaded in blocks_by_replica(folder, manifest, self._replicas):
            share, rows = shares[loaded.replica], loaded.rows
            part = loaded.block.pixels[loaded.part]
            share.pixels[rows], share.squared_norms[rows] = stored(part), squared_pixel_norms(part)
            share.digests[rows] = hashing.digests(loaded.block.ids[loaded.part])
        self.digests = [share.digests for share in shares]
        self._images = self._replicas.place([(s.pixels, s.squared_norms) for s in shares])
        return [share.squared_norms for share in shares]

    def _spare_row_bytes(self) -> int:
        """What a state may take for each of this worker's images."""
        count = sum(map(len, self.digests))
        row_bytes = row_width(self.num_features, self._dtype) * self._dtype.itemsize
        return memory.spare_row_bytes(count, count * row_bytes)

    def _compile(self, step: Step) -> Callable[[Any, Any], tuple[Any, list]]:
        run = self._replicas.compile(step)
        return lambda state, shared: run(self._images, state, shared)

    def _pixels(self, replica: int, rows: list[int]) -> np.ndarray:
        """Pixels [m, d] of images of this worker."""
        images = self._replicas.parts(self._images[0])[replica]
        return take(images, tf.constant(rows))[:, : self.num_features].numpy()


class Share(NamedTuple):
    """What one replica holds of its images."""

    pixels: np.ndarray  # [n_r, d], as `stored`
    squared_norms: np.ndarray  # float64 [n_r]
    digests: np.ndarray  # uint64 [n_r]


class Loaded(NamedTuple):
    """Images of one block, all of one replica.

    Attributes:
      replica: whose they are.
      rows: where they lie there.
      block: theirs.
      part: which of the block's they are.
      shard, number: where the block comes from, and its number there.
    """

    replica: int
    rows: slice
    block: Block
    part: slice
    shard: Shard
    number: int


def empty_facts(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Uninitialised ‖x‖² and digests of `count` images."""
    return aligned_empty((count,), "float64"), np.empty(count, np.uint64)


def own_shards(manifest: Manifest, replicas: Replicas) -> tuple[Shard, ...]:
    """The shards of this worker."""
    return manifest.shards[replicas.worker :: replicas.num_workers]


def share_rows(manifest: Manifest, replicas: Replicas) -> list[tuple[int, int]]:
    """(start, stop) of the images of each replica among this worker's."""
    count = sum(shard.num_images for shard in own_shards(manifest, replicas))
    cuts = [count * r // replicas.count for r in range(replicas.count + 1)]
    return list(itertools.pairwise(cuts))


def blocks_by_replica(folder: str, manifest: Manifest, replicas: Replicas) -> Iterator[Loaded]:
    """This worker's images, block by block, cut where a replica's share ends."""
    shares = share_rows(manifest, replicas)
    first = 0  # of the block's images among this worker's
    for shard in own_shards(manifest, replicas):
        for number, block in enumerate(read_shard(folder, shard, manifest)):
            replicas.end_if_asked("while loading")
            for replica, (start, stop) in enumerate(shares):
                a, b = max(first, start), min(first + len(block.ids), stop)
                if a < b:
                    rows, part = slice(a - start, b - start), slice(a - first, b - first)
                    yield Loaded(replica, rows, block, part, shard, number)
            first += len(block.ids)


def _wide(number: np.ndarray) -> np.ndarray:
    """A float, or an integer, in 8 bytes."""
    if number.dtype.kind == "f":
        return number.astype(np.float64)
    return number.astype(np.uint64 if number.dtype.kind == "u" else np.int64)


def _narrow(words: np.ndarray, dtype: np.dtype) -> list:
    """What `_wide` made of numbers of `dtype`, as Python numbers."""
    return words.view(_wide(np.empty(0, dtype)).dtype).tolist()

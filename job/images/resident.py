"""Images whose pixels stay in the memory of their replicas."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from job import hashing
from job.distribute.replicas import Replicas, aligned_empty, is_usable
from job.images import memory, places, rows
from job.images.frame import Extent, Frame, extent_from, find_frame, sample_of, with_quanta
from job.images.places import Place
from job.images.protocol import Pass, Step
from job.kmeans.blocks import images_per_block, row_width, stored, take
from pipeline.shards.block import read_shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units, units_of


class ResidentImages:
    """Implements `Images` with all pixels in memory."""

    def __init__(
        self,
        folder: str,
        manifest: Manifest,
        replicas: Replicas,
        read: rows.Read = read_shard,
        lying: np.ndarray | None = None,
    ):
        """Loads this worker's shards of `folder`.

        Args:
          read: reads the blocks of a shard.
          lying: the pixels uint8 [n, d] of this worker's images if they are in memory already. They
            are used where they lie, as far as TensorFlow can; they must not change meanwhile.

        Raises:
          UserError: a shard is not the one the manifest describes.
          InterruptedFit: this worker was asked to end.
        """
        self.num_images, self.num_features = manifest.num_images, manifest.num_features
        self.units: Units = units_of(np.dtype(manifest.dtype), manifest.num_features)
        self.precision = rows.common_precision(replicas)
        self._replicas, self._dtype = replicas, np.dtype(manifest.dtype)
        self._passes: dict[Any, Pass] = {}
        self._load(folder, manifest, read, lying)
        count = sum(map(len, self.digests))
        held_bytes = count * row_width(self.num_features, self._dtype) * self._dtype.itemsize
        spare_bytes = memory.spare_row_bytes(count, held_bytes)
        self.spare_row_bytes = rows.least_of_all(replicas, spare_bytes)

    def compile(self, step: Step, *options: Any) -> Pass:
        if (step, options) not in self._passes:
            run = self._replicas.compile(
                lambda images, state, shared: step(*images, state, shared, *options)
            )
            self._passes[step, options] = lambda state, shared: run(self._images, state, shared)
        return self._passes[step, options]

    def forget_passes(self) -> None:
        self._passes.clear()

    def state(self, make: Callable[[int], Any]) -> Any:
        return self._replicas.place([make(len(part)) for part in self.digests])

    def local(self, state: Any) -> list[np.ndarray]:
        return [part.numpy() for part in self._replicas.parts(state)]

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        return places.smallest(self._replicas, keys, count)

    def total(self, values: list[np.ndarray]) -> float:
        return rows.total(self._replicas, values)

    def holds(self, place: Place) -> bool:
        return place.worker == self._replicas.worker

    def take(self, where: Sequence[Place]) -> np.ndarray:
        pixels = places.take(self._replicas, where, self._read, self.num_features)
        return pixels.astype(self._dtype)

    def _load(
        self, folder: str, manifest: Manifest, read: rows.Read, lying: np.ndarray | None
    ) -> None:
        """Loads the images, their norms and their `digests`, and finds their frame."""
        shares = rows.share_rows(manifest, self._replicas)
        counts = [stop - start for start, stop in shares]
        width = row_width(self.num_features, self._dtype)
        held = [_usable(lying, start, stop, width) for start, stop in shares]
        pixels = [
            aligned_empty((count, width), self._dtype.name) if own is None else own
            for count, own in zip(counts, held, strict=True)
        ]
        norms = [rows.empty_norms(count) for count in counts]
        self.digests = [np.empty(count, np.uint64) for count in counts]
        extent = Extent.none(self.num_features)
        for loaded in rows.blocks_by_replica(folder, manifest, self._replicas, read):
            replica, own = loaded.replica, loaded.rows
            if held[replica] is None:
                pixels[replica][own] = stored(loaded.pixels)
            norms[replica][own] = rows.squared_pixel_norms(loaded.pixels)
            self.digests[replica][own] = hashing.digests(loaded.ids)
            if self._dtype != np.uint8:
                extent = extent.add(loaded.pixels)
        rows.check_norms(folder, norms)
        self.frame = Frame.none(self.num_features)
        if self._dtype != np.uint8:
            self._move_inside(folder, pixels, norms, extent)
        self.squared_norm_total = self.total(norms)
        self._images = self._replicas.place(list(zip(pixels, norms, strict=True)))

    def _move_inside(
        self, folder: str, pixels: list[np.ndarray], norms: list[np.ndarray], extent: Extent
    ) -> None:
        """Finds the frame of float32 images, and moves all into it, where they lie."""
        size = images_per_block(self.num_features)
        parts = [
            (part[start : start + size], own[start : start + size])
            for part, own in zip(pixels, norms, strict=True)
            for start in range(0, len(part), size)
        ]

        def read(replica: int, where: list[int]) -> np.ndarray:
            return pixels[replica][where]

        def moved(origin: np.ndarray) -> tuple[Extent, np.ndarray]:
            return extent_from(origin, (part for part, _ in parts), self._replicas)

        every = extent.of_all(self._replicas)
        sample = functools.partial(sample_of, self._replicas, self.digests, read, self.num_features)
        self.frame, every = find_frame(every, sample, moved, folder)
        self.units = with_quanta(self.units, self.frame, every, self.num_images)
        moved_at_all = self.frame.origin.any()
        for part, own in parts:
            part[:] = self.frame.inside(part)
            own[:] = rows.squared_pixel_norms(part) if moved_at_all else self.frame.scaled(own)

    def _read(self, replica: int, where: list[int]) -> np.ndarray:
        """Reads pixels [m, d] of rows of a replica of this worker."""
        images = self._replicas.parts(self._images[0])[replica]
        return take(images, tf.constant(where))[:, : self.num_features].numpy()


def _usable(lying: np.ndarray | None, start: int, stop: int, width: int) -> np.ndarray | None:
    """Returns lying[start:stop] if it is as `stored` images are, and TensorFlow can use it."""
    if lying is None or lying.shape[1] != width or not is_usable(lying[start:stop]):
        return None
    return lying[start:stop]

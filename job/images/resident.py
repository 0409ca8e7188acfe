"""Images whose pixels stay in the memory of their replicas."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from job.distribute.replicas import Replicas
from job.images import memory, places, rows
from job.images.frame import Extent, Frame, extent_from, find_frame, sample_of, with_quanta
from job.images.places import Place
from job.images.protocol import Pass, Step
from job.images.weighted import rows_of
from job.kmeans.blocks import aligned_empty, images_per_block, is_usable, row_width, stored, take
from pipeline.shards.block import read_shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.pixel_scale import Units, units_of


class ResidentImages:
    """Implements `Images` with all pixels in memory."""

    copies: Any = None

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
        self.num_features = manifest.num_features
        self.units: Units = units_of(np.dtype(manifest.dtype), manifest.num_features)
        self.precision = rows.common_precision(replicas)
        self._replicas, self._dtype = replicas, np.dtype(manifest.dtype)
        self._passes: dict[Any, Pass] = {}
        self._load(folder, manifest, read, lying)
        count = sum(self._counts)
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
        return self._replicas.place([make(count) for count in self._counts])

    def local(self, state: Any) -> list[np.ndarray]:
        return self._kept.by_image([part.numpy() for part in self._replicas.parts(state)])

    def smallest(self, keys: list[list[np.ndarray]], count: int) -> list[tuple]:
        return places.smallest(self._replicas, keys, count)

    def total(self, values: list[np.ndarray]) -> float:
        return rows.total(self._replicas, self._kept.weighed(values))

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
        self._counts = counts = [stop - start for start, stop in shares]
        width = row_width(self.num_features, self._dtype)
        held = [
            None if lying is None else usable(lying[start:stop], width) for start, stop in shares
        ]
        pixels = [
            aligned_empty((count, width), self._dtype.name) if own is None else own
            for count, own in zip(counts, held, strict=True)
        ]
        norms = [rows.empty_norms(count) for count in counts]
        self._kept = rows_of(manifest, counts)
        extent = Extent.none(self.num_features)
        for loaded in rows.blocks_by_replica(folder, manifest, self._replicas, read):
            replica, own = loaded.replica, loaded.rows
            if held[replica] is None:
                pixels[replica][own] = stored(loaded.pixels)
            norms[replica][own] = rows.squared_pixel_norms(loaded.pixels)
            self._kept.add(loaded)
            if self._dtype != np.uint8:
                self._kept.silence(replica, own, norms[replica][own])
                extent = extent.add(self._kept.counting(replica, own, loaded.pixels))
        rows.check_norms(folder, norms)
        self._take_over(self._kept)
        self.frame = Frame.none(self.num_features)
        if self._dtype != np.uint8:
            self._move_inside(folder, pixels, norms, extent)
        self.squared_norm_total = self.total(self._kept.by_image(norms))
        self._images = self._replicas.place(list(zip(pixels, norms, strict=True)))

    def _take_over(self, kept: rows.Rows) -> None:
        """Takes what the rows are to the algorithms, once all are loaded."""
        kept.settle(self._replicas)
        self.num_images, self.digests = kept.num_images, kept.digests
        self.weights, self.weight_unit = kept.weights, kept.unit
        if kept.copies is not None:
            self.copies = self._replicas.place(kept.copies)

    def _move_inside(
        self, folder: str, pixels: list[np.ndarray], norms: list[np.ndarray], extent: Extent
    ) -> None:
        """Finds the frame of float32 images, and moves all into it, where they lie."""
        size = images_per_block(self.num_features)
        parts = [
            (replica, slice(start, start + size))
            for replica, part in enumerate(pixels)
            for start in range(0, len(part), size)
        ]

        def read(replica: int, where: list[int]) -> np.ndarray:
            return pixels[replica][self._kept.of_images(replica, where)]

        def moved(origin: np.ndarray) -> tuple[Extent, np.ndarray]:
            counting = (self._kept.counting(r, own, pixels[r][own]) for r, own in parts)
            return extent_from(origin, counting, self._replicas)

        every = extent.of_all(self._replicas)
        sample = functools.partial(sample_of, self._replicas, self.digests, read, self.num_features)
        self.frame, every = find_frame(every, sample, moved, folder)
        self.units = with_quanta(self.units, self.frame, every, self.num_images)
        moved_at_all = self.frame.origin.any()
        for replica, own in parts:
            part, squares = pixels[replica][own], norms[replica][own]
            self._kept.silence(replica, own, part)
            part[:] = self.frame.inside(part)
            self._kept.silence(replica, own, part)
            squares[:] = (
                rows.squared_pixel_norms(part) if moved_at_all else self.frame.scaled(squares)
            )

    def _read(self, replica: int, where: list[int]) -> np.ndarray:
        """Reads pixels [m, d] of rows of a replica of this worker."""
        images = self._replicas.parts(self._images[0])[replica]
        own = tf.constant(self._kept.of_images(replica, where))
        return take(images, own)[:, : self.num_features].numpy()


def usable(pixels: np.ndarray, width: int) -> np.ndarray | None:
    """Returns pixels [n, d] if TensorFlow can use them where they lie.

    Args:
      width: of `stored` rows.
    """
    return pixels if pixels.shape[1] == width and is_usable(pixels) else None

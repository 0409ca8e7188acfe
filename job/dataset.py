"""What the algorithm sees of the data: how many images, how wide, a pass over all, a few rows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from job import randomness
from job.kmeans import Units, row_width, stored, units_of
from job.replicas import Replicas, Step, aligned_empty
from pipeline.shards import Block, Manifest, read_shard


class Place(NamedTuple):
    """Where an image lies: its replica, its row there."""

    replica: int
    row: int


class Images:
    """All images of a set, resident in the memory of their replicas.

    Replica r of R holds the images n·r/R … n·(r + 1)/R − 1 in the order of the shards. No result
    depends on that.

    Attributes:
      num_images: n.
      num_features: d.
      units: of the pixels.
      squared_norm_total: Σ‖x‖² in pixels²; an exact integer for uint8.
      digests: of the ids, uint64 [n_r] for each replica r.
    """

    def __init__(self, folder: str, manifest: Manifest, replicas: Replicas):
        """Loads the shards of `folder`.

        Raises:
          UserError: a shard is not the one the manifest describes.
        """
        self.num_images, self.num_features = manifest.num_images, manifest.num_features
        self.units: Units = units_of(np.dtype(manifest.dtype), manifest.num_features)
        self._replicas = replicas
        self._passes: dict[Any, Callable] = {}
        shares = _load(folder, manifest, replicas.count)
        self.digests = [share.digests for share in shares]
        self.squared_norm_total = float(sum(share.squared_norms.sum() for share in shares))
        self._images = replicas.place([(share.pixels, share.squared_norms) for share in shares])

    def compile(self, step: Step, *options: Any) -> Callable[[Any, Any], tuple[Any, list]]:
        """A pass over all images: (state, shared) → (state, totals).

        Args:
          step: (images [n_r, d] as `stored`, ‖x‖² float64 [n_r], state, shared, *options) →
            (state, partial sums); a function of a module, so that its graph is traced once for
            these images.
          options: hashable.
        """
        if (step, options) not in self._passes:
            self._passes[step, options] = self._replicas.compile(
                lambda images, state, shared: step(*images, state, shared, *options)
            )
        run = self._passes[step, options]
        return lambda state, shared: run(self._images, state, shared)

    def state(self, make: Callable[[int], Any]) -> Any:
        """A state for `compile`d passes: what `make` returns for the count of each replica."""
        return self._replicas.place([make(len(part)) for part in self.digests])

    def local(self, state: Any) -> list[np.ndarray]:
        """A state that is one tensor, as numpy arrays in the order of `digests`."""
        return [part.numpy() for part in self._replicas.parts(state)]

    def take(self, places: Sequence[Place]) -> np.ndarray:
        """Pixels of the images at `places`, in the set's dtype; [m, d]."""
        parts = self._replicas.parts(self._images[0])
        width = self.num_features
        rows = [parts[place.replica][place.row][:width].numpy() for place in places]
        return np.array(rows, parts[0].dtype.as_numpy_dtype).reshape(-1, width)


def squared_norms(pixels: np.ndarray) -> np.ndarray:
    """‖x‖² of images [n, d], in pixels²; float64 [n], exact for uint8."""
    wide = pixels.astype(np.float64)
    return np.einsum("nd,nd->n", wide, wide)


class _Share(NamedTuple):
    """What one replica holds of its images."""

    pixels: np.ndarray  # [n_r, d], as `stored`
    squared_norms: np.ndarray  # float64 [n_r]
    digests: np.ndarray  # uint64 [n_r]


def _load(folder: str, manifest: Manifest, count: int) -> list[_Share]:
    """The images of `folder`, dealt to `count` replicas; one block more than that in memory."""
    width = row_width(manifest.num_features, np.dtype(manifest.dtype))
    cuts = [manifest.num_images * r // count for r in range(count + 1)]
    shares = [
        _Share(
            aligned_empty((stop - start, width), manifest.dtype),
            aligned_empty((stop - start,), "float64"),
            np.empty(stop - start, np.uint64),
        )
        for start, stop in itertools.pairwise(cuts)
    ]
    first = 0  # of the block's images in the whole set
    for block in _blocks(folder, manifest):
        last = first + len(block.ids)
        pixels = stored(block.pixels)
        norms, digests = squared_norms(pixels), randomness.digests(block.ids)
        for share, start in zip(shares, cuts, strict=False):
            a, b = max(first, start), min(last, start + len(share.digests))
            if a < b:
                source, target = slice(a - first, b - first), slice(a - start, b - start)
                share.pixels[target] = pixels[source]
                share.squared_norms[target] = norms[source]
                share.digests[target] = digests[source]
        first = last
    return shares


def _blocks(folder: str, manifest: Manifest) -> Iterator[Block]:
    for shard in manifest.shards:
        yield from read_shard(folder, shard, manifest)

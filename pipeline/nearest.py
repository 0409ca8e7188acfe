"""The nearest published centroid of new images, in numpy, decided as `fit` decides it.

One matrix product in float64 gives scores. Where they leave more than one centroid, distances in
double-double decide, and ties go to the lowest cluster. So images get the clusters that `fit` gives
them, on every machine and in blocks of any size. For uint8 images the product is exact; distances
of float32 images are sums of squared differences in a fixed order. Both have the bits of `fit`.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import plan
from pipeline.shards.analysis import Measured
from pipeline.shards.assignments import Assigned
from pipeline.shards.block import Block
from pipeline.shards.decisions import doubts_of, nearest_of
from pipeline.shards.double_double import NUMPY, row_sums
from pipeline.shards.manifest import TransformFile
from pipeline.shards.pixel_scale import middle_of, squared_norms, to_squared_distances, units_of
from pipeline.sources.protocol import Source

SAVED_MODEL = "saved_model.pb"
# A difference that is a smaller share of what it was taken from has lost too many digits.
CANCELLED = 2.0**-16
SCORED_BYTES = 2 << 20  # of float64 pixels and scores at a time: they stay in the cache
# Where centroids do not: so many images, if they fit, for each time that all centroids are read.
SHARING, SHARING_BYTES = 128, 16 << 20
PART_PRODUCTS = 1 << 26  # of numbers: handing work to a thread takes no time beside them


class Model(NamedTuple):
    """The parts of a finished fit that `assign` needs.

    Attributes:
      folder: the folder of the result.
      centroids: float32 [k, d], published units.
      image_shape: (h, w), (h, w, c) or (d,), of the images that were clustered.
      dtype: of these images, "uint8" or "float32".
      transform: the file of the transform that made vectors of images; None if there was none.
    """

    folder: str
    centroids: np.ndarray
    image_shape: tuple[int, ...]
    dtype: str
    transform: TransformFile | None = None

    def fingerprint(self) -> str:
        """Returns 32 hexadecimal digits that are equal for models with equal answers."""
        facts = self.image_shape, self.dtype, self.transform and self.transform.crc32c
        content = repr(facts).encode() + self.centroids.tobytes()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def check(self, source: Source) -> None:
        """Raises UserError if the images of `source` are of another shape or dtype."""
        if (source.image_shape, source.dtype) == (self.image_shape, self.dtype):
            return
        remedy = "give images like those of the fit"
        if source.dtype == self.dtype == "uint8" and len(self.image_shape) >= 2:
            height, width = self.image_shape[:2]
            gray = " --grayscale" if len(source.image_shape) > len(self.image_shape) else ""
            remedy += f", or make them so: --image-size {height}x{width}{gray}"
        raise UserError(
            f"--input {source.request}: images of {_text(source.image_shape, source.dtype)}, but "
            f"--model {self.folder} was fitted to images of {_text(self.image_shape, self.dtype)}; "
            f"{remedy}"
        )


def _text(shape: tuple[int, ...], dtype: str) -> str:
    """Describes images in messages: 28 × 28 uint8."""
    return f"{' × '.join(map(str, shape))} {dtype}"


def read_model(folder: str) -> Model:
    """Reads the model of the finished result in `folder`, which may also be its folder model/.

    Raises:
      UserError: there is no finished result, or its files do not fit together.
    """
    if storage.is_file(storage.join(folder, SAVED_MODEL)):
        folder = os.path.dirname(os.path.abspath(folder) if storage.is_local(folder) else folder)
    path = storage.join(folder, "metrics.json")
    if absence := storage.absence(path):
        raise UserError(
            f"--model {folder}: not a finished result: {path}: {absence}; give the --output of "
            "`kmeans-job fit`"
        )
    try:
        facts = json.loads(storage.read_bytes(path))
        if "drift" in facts:
            raise UserError(
                f"--model {folder}: images that were assigned, not a model; give the --model that "
                f"they were assigned with: {facts['model']['folder']}"
            )
        shape, dtype = tuple(facts["image_shape"]), facts["dtype"]
        transform = TransformFile.from_fields(facts.get("transform"))
        path = storage.join(folder, "centroids.npy")
        centroids = np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
        if centroids.shape != (facts["num_clusters"], math.prod(shape)):
            raise ValueError(f"shape {centroids.shape}")
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{path}: damaged ({error}); run `kmeans-job fit` again") from error
    return Model(folder, centroids, shape, dtype, transform)


class NearestCentroid:
    """Assigns the images of blocks to their nearest centroids.

    Attributes:
      num_clusters: k.
    """

    def __init__(self, model: Model, threads: int | None = 1):
        """Takes the model, and how many threads share a block; None: as many as there are cores.

        An engine runs a worker on each core, so there more than one would only compete.
        """
        self.num_clusters = len(model.centroids)
        self._units = units_of(np.dtype(model.dtype), math.prod(model.image_shape))
        self._centroids = model.centroids.astype(np.float64)
        self._middle = middle_of(self._centroids, self._units)
        around = self._centroids - self._middle
        self._weights = -2.0 * around.T  # [d, k]
        squares = squared_norms(around, self._units)
        self._bias = self._units.scale * squares
        self._doubts = doubts_of(squares, self._units.scale, around.shape[1])
        self._largest_doubts = self._doubts.max(axis=1)
        self._blas, self._threads = ThreadpoolController(), threads
        row_bytes = 8 * sum(around.shape)
        sharing = min(SHARING, SHARING_BYTES // row_bytes)
        self._rows = max(1, SCORED_BYTES // row_bytes, sharing)
        self._part_rows = max(self._rows, PART_PRODUCTS // around.size)

    def __call__(self, block: Block) -> Assigned:
        """Assigns each image of `block` to its nearest centroid, the first of equally near ones."""
        clusters, squared = self._by_rows(block.pixels, self._nearest)
        return Assigned(block, clusters.astype(np.int32), squared)

    def measure(self, block: Block) -> Measured:
        """Assigns each image of `block`, and measures how far the second nearest centroid is."""
        clusters, squared, second, norms = self._by_rows(block.pixels, self._nearest_two)
        return Measured(Assigned(block, clusters.astype(np.int32), squared), second, norms)

    def _by_rows(
        self, pixels: np.ndarray, find: "Callable[[_Scored], tuple[np.ndarray, ...]]"
    ) -> list[np.ndarray]:
        """Joins what `find` returns of all images."""
        parts = self._each(len(pixels), lambda rows: find(self._score(pixels[rows])))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _each(self, count: int, function: Callable[[slice], Any]) -> list[Any]:
        """Returns what `function` does of so many rows at a time as stay in the cache, in order."""

        def part(span: tuple[int, int]) -> list[Any]:
            return [function(slice(*rows)) for rows in plan.spans(*span, self._rows)]

        spans = [*plan.spans(0, max(1, count), self._part_rows)]
        # Threads of BLAS would share each small product, and wait for each other for longer. The
        # pool is made anew, since a process that forks later would have one without threads.
        with (
            self._blas.limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(self._threads or os.cpu_count()) as pool,
        ):
            each = map if len(spans) == 1 or self._threads == 1 else pool.map
            return [found for several in each(part, spans) for found in several]

    def _score(self, pixels: np.ndarray) -> "_Scored":
        wide = pixels.astype(np.float64)
        around = wide - self._middle if self._middle.any() else wide
        # ‖x − c‖² without ‖x‖², which is the same for all centroids of an image.
        scores = around @ self._weights  # [n, k]
        scores += self._bias
        norms = np.einsum("nd,nd->n", around, around)
        return _Scored(wide, norms, scores, np.arange(len(wide)))

    def _nearest(self, scored: "_Scored") -> tuple[np.ndarray, np.ndarray]:
        """Finds clusters [n], and squared distances [n] in published units²."""
        clusters = scored.scores.argmin(axis=1)
        doubt = self._in_doubt(scored, clusters)
        if len(doubt):
            scores = scored.scores[doubt]
            margins = np.sqrt(scored.norms[doubt])[:, None] * self._doubts[0] + self._doubts[1]
            near = scores - margins <= (scores + margins).min(axis=1, keepdims=True)
            exact = self._units.scale * self._centroids
            clusters[doubt] = nearest_of(scored.wide[doubt], exact, near)
        return clusters, self._squared(scored, clusters)

    def _in_doubt(self, scored: "_Scored", clusters: np.ndarray) -> np.ndarray:
        """Returns the images that may have a nearer centroid than `clusters`, of lowest scores."""
        scores, own = scored.scores, (scored.rows, clusters)
        lowest = scores[own]
        scores[own] = np.inf
        others = scores.min(axis=1)
        scores[own] = lowest
        # The largest margins of any centroid: those of each would take as long as the product.
        # Three, since both scores may be off, and are rounded where they are compared.
        margins = np.sqrt(scored.norms) * self._largest_doubts[0] + self._largest_doubts[1]
        return np.flatnonzero(~(others > lowest + 3 * margins))

    def _nearest_two(self, scored: "_Scored") -> tuple[np.ndarray, ...]:
        """Finds clusters, squared distances to the nearest and second nearest, and norms: [n]."""
        clusters, squared = self._nearest(scored)
        if self.num_clusters == 1:
            return clusters, squared, squared, scored.norms
        # The own one is out of the question now.
        scored.scores[scored.rows, clusters] = np.inf
        return clusters, squared, self._nearest(scored)[1], scored.norms

    def _squared(self, scored: "_Scored", clusters: np.ndarray) -> np.ndarray:
        if self._units.step:
            lowest = scored.scores[scored.rows, clusters]
            return to_squared_distances(lowest, scored.norms, self._units)
        return self._directly(scored.wide, clusters)

    def _directly(self, wide: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        """Sums up squared distances [n] of images float64 [n, d] to the centroids `clusters`."""
        return row_sums(np.square(wide - self._centroids[clusters]), NUMPY)

    def squared_distances(self, pixels: np.ndarray) -> np.ndarray:
        """Computes squared distances [n, k] of pixels [n, d] to all centroids, published units²."""
        found = np.empty((len(pixels), self.num_clusters))

        def fill(rows: slice) -> None:
            found[rows] = self._to_all(self._score(pixels[rows]))

        self._each(len(pixels), fill)
        return found

    def _to_all(self, scored: "_Scored") -> np.ndarray:
        """Does what `squared_distances` does, for few images."""
        norms = scored.norms[:, None]
        squared = to_squared_distances(scored.scores, norms, self._units)
        if not self._units.step:
            rows, clusters = np.nonzero(squared <= CANCELLED * (norms + self._bias))
            most = max(1, SCORED_BYTES // (8 * scored.wide.shape[1]))
            for start, stop in plan.spans(0, len(rows), most):
                pairs = rows[start:stop], clusters[start:stop]
                squared[pairs] = self._directly(scored.wide[pairs[0]], pairs[1])
        return squared


class _Scored(NamedTuple):
    """Images and how near the centroids are to them.

    Attributes:
      wide: their pixels, float64 [n, d].
      norms: squared, seen from the middle of the centroids; float64 [n].
      scores: the lower, the nearer; float64 [n, k].
      rows: 0 … n − 1.
    """

    wide: np.ndarray
    norms: np.ndarray
    scores: np.ndarray
    rows: np.ndarray

"""A finished result as notebooks use it: looked at, applied to new images, exported."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from job.config import ExportConfig
from job.result import read
from job.result.folder import REPORT
from kmeans_job.keywords import ExportOptions, Path
from pipeline import storage
from pipeline.errors import UserError
from pipeline.nearest import Model, NearestCentroid
from pipeline.options import from_keywords
from pipeline.shards import plan
from pipeline.shards.block import Block
from pipeline.shards.ids import numbered_ids
from pipeline.shards.manifest import TransformFile
from pipeline.sources.checks import check_finite, stored_dtype

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WHERE = "predict"  # what messages call the images that it is given


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result(read.Result):
    """The content of a result folder, and what can be done with it.

    >>> result = load_result("out")
    >>> result
    Result('out': 10 clusters of 1,797 images, 14 iterations, inertia 4,567)
    >>> result.predict(new_images)
    array([3, 3, 7], dtype=int32)
    >>> result.export("sorted", what="representatives")
    10

    Attributes, beside those of `job.result.read.Result`:
      report: the path of report.html.
    """

    @property
    def report(self) -> str:
        return storage.join(self.folder, REPORT)

    def predict(self, images: "ArrayLike") -> "NDArray[np.int32]":
        """Finds the nearest centroid of each image, as `assign` does: with the same answers.

        Args:
          images: [n, h, w(, c)], or flat, [n, d]; of the dtype and shape that were clustered. Where
            vectors were clustered that a transform made of images, these are images too.

        Returns:
          Clusters, int32 [n].

        Raises:
          UserError: the images are of another shape or dtype.
        """
        shape, dtype = self._images
        pixels = _pixels(np.asarray(images), shape, dtype)
        clusters = np.empty(len(pixels), np.int32)
        for a, b in plan.spans(0, len(pixels), plan.images_per_block(pixels[:1].nbytes or 1)):
            block = Block(numbered_ids(WHERE, a, b), None, pixels[a:b])
            if block.pixels.dtype != np.uint8:
                check_finite(block.pixels, block.ids, WHERE)
            if self._transform is not None:
                block = block._replace(pixels=self._transform.apply(block.pixels))
            clusters[a:b] = self._nearest(block).clusters
        return clusters

    def export(self, output: Path, **options: Unpack[ExportOptions]) -> int:
        """Writes images or a list of them into a new folder, as `kmeans-job export` does.

        Args:
          output: the folder.
          options: the fields of `job.config.ExportConfig`: `what`, which is clusters, outliers,
            duplicates or representatives; `images`, `per_cluster`, `link` …

        Returns:
          How many images were exported.

        Raises:
          TypeError: an option does not exist; the message names the nearest.
          pipeline.errors.UserError: an option, the images or the output folder is at fault.
        """
        given = {"run": self.folder, "output": output}
        config = from_keywords(ExportConfig, {"quiet": True, **options, **given})
        from job.export import export

        return export(config)

    def __repr__(self) -> str:
        from job.report.formatting import figure, heading

        metrics = self.metrics
        facts = [heading(metrics), f"{metrics['iterations']:,} iterations"]
        facts.append(f"inertia {figure(metrics['inertia'])}")
        if metrics.get("purity") is not None:
            facts.append(f"purity {metrics['purity']:.4f}")
        if not metrics["converged"]:
            facts.append("stopped before convergence")
        return f"Result({self.folder!r}: {', '.join(facts)})"

    def _repr_html_(self) -> str:
        from job.report.cell import build_cell

        return build_cell(self)

    @functools.cached_property
    def _file(self) -> TransformFile | None:
        """The transform that made vectors of the images, as metrics.json describes it."""
        return TransformFile.from_fields(self.metrics.get("transform"))

    @property
    def _images(self) -> tuple[tuple[int, ...], str]:
        """The shape and the dtype of the images, before any transform."""
        if self._file is not None:
            return self._file.image_shape, self._file.dtype
        return tuple(self.metrics["image_shape"]), self.metrics["dtype"]

    @functools.cached_property
    def _transform(self) -> Any:
        if self._file is None:
            return None
        from pipeline.features.source import load

        return load(self.folder, self._file)

    @functools.cached_property
    def _nearest(self) -> NearestCentroid:
        shape, dtype = tuple(self.metrics["image_shape"]), self.metrics["dtype"]
        model = Model(self.folder, self.centroids, shape, dtype, self._file)
        return NearestCentroid(model, threads=None)


def load_result(folder: str) -> Result:
    """Loads the finished result in `folder`; raises UserError as `job.result.read` does."""
    found = read.load_result(folder)
    return Result(*(getattr(found, field.name) for field in dataclasses.fields(found)))


def _pixels(images: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Returns images as rows [n, d] of `dtype`, which are those of `shape`.

    Raises:
      UserError: they are not.
    """
    size = int(np.prod(shape))
    if images.shape[1:] not in (shape, (size,)) or images.ndim < 2:
        flat = "" if len(shape) == 1 else f" or (n, {size})"
        wanted = f"(n, {', '.join(map(str, shape))}){flat}"
        raise UserError(f"{WHERE}: an array of shape {images.shape}; give one of shape {wanted}")
    rows = images.reshape(len(images), size)
    if not len(rows):
        return np.empty((0, size), dtype)
    if dtype == "float32" and rows.dtype.kind in "iub":
        return rows.astype(np.float32)
    found = stored_dtype(rows.dtype, lambda: (int(rows.min()), int(rows.max())), WHERE)
    if found != dtype:
        raise UserError(
            f"{WHERE}: pixels of {rows.dtype}, but these are clusters of uint8 images, 0 … 255: if "
            "yours are 0 … 1, give np.rint(images * 255).astype('uint8')"
        )
    return rows.astype(dtype, copy=False)

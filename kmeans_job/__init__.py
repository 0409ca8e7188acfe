"""Exact K-means for large sets of images, in Python: the commands as functions.

Importing it loads neither TensorFlow nor Beam: each function loads what it needs when it is called.
"""

import os
from typing import TYPE_CHECKING, Any

from job import __version__ as __version__
from job.config import FitConfig
from pipeline.config import AssignConfig, ShardConfig
from pipeline.options import build, signature

if TYPE_CHECKING:
    from job.result.read import Result
    from pipeline.shards.assignments import AssignmentsManifest
    from pipeline.shards.manifest import Manifest

__all__ = ["assign", "fit", "load_result", "shard"]
Path = str | os.PathLike


def shard(input: Path | tuple[Path, ...], output: Path, **options: Any) -> "Manifest":
    """Writes images as shards, as `kmeans-job shard` does.

    >>> shard("digits", "out/shards").num_images
    1797

    Args:
      input: what `--input` takes: the name of a set, a path or glob, or several of them.
      output: folder for the shards.
      options: the fields of `pipeline.config.ShardConfig`: `split`, `image_size`, `transform` …

    Returns:
      What manifest.json says of the shards.

    Raises:
      TypeError: there is no such option; the message names the nearest.
      pipeline.errors.UserError: the input, an option or the output folder is at fault.
    """
    from pipeline import shard as verb

    return verb.shard(build(ShardConfig, _quietly(options, input=input, output=output)))


def fit(shards: Path, output: Path, k: int, **options: Any) -> "Result":
    """Clusters the images of a folder of shards, as `kmeans-job fit` does.

    >>> fit("out/shards", "out", 10, seed=1).metrics["converged"]
    True

    Args:
      shards: folder of the shards.
      output: folder for the result.
      k: number of clusters.
      options: the fields of `job.config.FitConfig`: `init`, `seed`, `restarts`, `overwrite` …

    Returns:
      The result: metrics, centroids, history, assignments.

    Raises:
      TypeError: there is no such option; the message names the nearest.
      pipeline.errors.UserError: an option, the shards or the output folder is at fault.
    """
    from job import fit as verb

    config = build(FitConfig, _quietly(options, shards=shards, output=output, k=k))
    verb.fit(config)
    return load_result(output)


def assign(
    model: Path, input: Path | tuple[Path, ...], output: Path, **options: Any
) -> "AssignmentsManifest":
    """Finds the nearest centroid of new images, as `kmeans-job assign` does.

    >>> assign("out", "digits", "new").num_images
    1797

    Args:
      model: folder of a fit's result.
      input: what `--input` takes: the name of a set, a path or glob, or several of them.
      output: folder for the assignments.
      options: the fields of `pipeline.config.AssignConfig`: `split`, `image_size` …

    Returns:
      What manifest.json says of the assignments.

    Raises:
      TypeError: there is no such option; the message names the nearest.
      pipeline.errors.UserError: the model, the input, an option or the output folder is at fault.
    """
    from pipeline import assign as verb

    return verb.assign(
        build(AssignConfig, _quietly(options, model=model, input=input, output=output))
    )


def load_result(folder: Path) -> "Result":
    """The finished result in `folder`: metrics, centroids, history, assignments.

    >>> load_result("out").centroids.shape
    (10, 64)

    Raises:
      pipeline.errors.UserError: there is none, or a file of it cannot be read.
    """
    from job.result import read

    return read.load_result(os.fspath(folder))


def _quietly(options: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Options with those that a function names itself; without progress unless it is asked for."""
    return {"quiet": True, **options, **given}


def _show_options(function: Any, config_class: type) -> None:
    """Lets notebooks show every option of a function, with its default."""
    function.__signature__ = signature(function, config_class, quiet=True)


_show_options(shard, ShardConfig)
_show_options(fit, FitConfig)
_show_options(assign, AssignConfig)

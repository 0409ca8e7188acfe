"""Exact K-means for large sets of images, from Python: the commands as functions.

Importing it loads neither TensorFlow nor Beam: each function loads what it needs when it is called.
"""

import os
from typing import TYPE_CHECKING, Any

from job import __version__ as __version__
from job.config import FitConfig
from pipeline.config import AssignConfig, ShardConfig
from pipeline.options import from_keywords, signature

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
      input: the name of a set, a path or a glob, or several of them, as `--input` takes them.
      output: folder for the shards.
      options: the fields of `pipeline.config.ShardConfig`: `split`, `image_size`, `transform` …

    Returns:
      The content of the shards' manifest.json.

    Raises:
      TypeError: an option does not exist; the message names the nearest.
      pipeline.errors.UserError: the input, an option or the output folder is at fault.
    """
    config = from_keywords(ShardConfig, _quietly(options, input=input, output=output))
    from pipeline import shard as command

    return command.shard(config)


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
      TypeError: an option does not exist; the message names the nearest.
      pipeline.errors.UserError: an option, the shards or the output folder is at fault.
    """
    config = from_keywords(FitConfig, _quietly(options, shards=shards, output=output, k=k))
    from job import fit as command

    command.fit(config)
    return load_result(output)


def assign(
    model: Path, input: Path | tuple[Path, ...], output: Path, **options: Any
) -> "AssignmentsManifest":
    """Finds the nearest centroid of new images, as `kmeans-job assign` does.

    >>> assign("out", "digits", "new").num_images
    1797

    Args:
      model: folder of a fit's result.
      input: the name of a set, a path or a glob, or several of them, as `--input` takes them.
      output: folder for the assignments.
      options: the fields of `pipeline.config.AssignConfig`: `split`, `image_size` …

    Returns:
      The content of the assignments' manifest.json.

    Raises:
      TypeError: an option does not exist; the message names the nearest.
      pipeline.errors.UserError: the model, the input, an option or the output folder is at fault.
    """
    config = from_keywords(AssignConfig, _quietly(options, model=model, input=input, output=output))
    from job import assign as command

    return command.assign(config)


def load_result(folder: Path) -> "Result":
    """Loads the finished result in `folder`: metrics, centroids, history, assignments.

    >>> load_result("out").centroids.shape
    (10, 64)

    Raises:
      pipeline.errors.UserError: there is no finished result, or a file of it cannot be read.
    """
    from job.result import read

    return read.load_result(os.fspath(folder))


def _quietly(options: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Returns all options of a call: `given` and `options`, and `quiet` unless that is set."""
    return {"quiet": True, **options, **given}


def _show_options(function: Any, config_class: type) -> None:
    """Gives a function the signature that notebooks show: with every option and its default."""
    function.__signature__ = signature(function, config_class, quiet=True)


_show_options(shard, ShardConfig)
_show_options(fit, FitConfig)
_show_options(assign, AssignConfig)

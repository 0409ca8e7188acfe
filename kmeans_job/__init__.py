"""Exact K-means for large sets of images, in Python: the commands as functions."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from job.result.read import Result

from job import __version__ as __version__


def fit(
    shards: str | os.PathLike,
    output: str | os.PathLike,
    k: int,
    *,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> "Result":
    """Clusters the images of the folder `shards` into the folder `output`, as `kmeans-job fit`.

    Args:
      k: number of clusters.
      overwrite: replaces a result or a checkpoint that is there.
      quiet: shows no progress.
      options: `init`, `seed`, `restarts` … : the fields of `job.config.FitConfig`.

    Raises:
      pipeline.errors.UserError: an option, the shards or the output folder is at fault.
    """
    from pipeline.terminal import without_chatter

    with without_chatter():
        from job import fit as fitting
        from job.config import FitConfig

    config = FitConfig(os.fspath(shards), os.fspath(output), k, **options)
    fitting.fit(config, overwrite, quiet)
    return load_result(output)


def load_result(folder: str | os.PathLike) -> "Result":
    """The finished result in `folder`: metrics, centroids, history, assignments.

    Raises:
      pipeline.errors.UserError: there is none, or a file of it cannot be read.
    """
    from job.result import read

    return read.load_result(os.fspath(folder))

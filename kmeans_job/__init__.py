"""Exact K-means for large sets of images, from Python: the commands as functions.

Importing it loads neither TensorFlow nor Beam: each function loads what it needs when it is called.
"""

import importlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from job import __version__ as __version__
from job.config import SHARDS, FitConfig, parse_ks, sweep_configs
from kmeans_job.keywords import AssignOptions, FitOptions, Path, ShardOptions
from pipeline import storage
from pipeline.config import AssignConfig, ShardConfig
from pipeline.errors import UserError as UserError
from pipeline.options import from_keywords, signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from job.estimator.kmeans import KMeans as KMeans
    from kmeans_job.callbacks import Callback
    from kmeans_job.result import Result as Result
    from pipeline.shards.assignments import AssignmentsManifest
    from pipeline.shards.manifest import Manifest

__all__ = ["UserError", "assign", "fit", "load_result", "shard", "sweep"]
# A path or a name of a set, several of them, or an object that holds the images.
Images = Path | Iterable[object]
# Modules of the classes, by name.
CLASSES = {"KMeans": "job.estimator.kmeans", "Result": "kmeans_job.result"}


def shard(input: Images, output: Path, **options: Unpack[ShardOptions]) -> "Manifest":
    """Writes images as shards, as `kmeans-job shard` does.

    >>> shard("digits", "out/shards").num_images
    1797
    >>> shard((images, labels), "out/arrays", num_shards=4).image_shape
    (28, 28)

    Args:
      input: the name of a set, a path or a glob, or several of them, as `--input` takes them. Or
        the images themselves, which are read in this process: an array [n, h, w(, c)] or [n, d],
        a pair (images, labels), a `datasets.Dataset`, a `tf.data.Dataset`, or an iterable of
        (id, image) or (id, image, label).
      output: folder for the shards.
      options: the fields of `pipeline.config.ShardConfig`: `split`, `image_size`, `transform` …

    Returns:
      The content of the shards' manifest.json.

    Raises:
      TypeError: an option does not exist; the message names the nearest.
      UserError: the input, an option or the output folder is at fault.
    """
    from kmeans_job import images

    names, given = images.named(input)
    config = from_keywords(ShardConfig, _quietly(options, input=names, output=output))
    from pipeline import shard as command

    return command.shard(config, given)


def fit(
    shards: Images,
    output: Path,
    k: int,
    callbacks: "Sequence[Callback]" = (),
    **options: Unpack[FitOptions],
) -> "Result":
    """Clusters the images of a folder of shards, as `kmeans-job fit` does.

    >>> fit("out/shards", "out", 10, seed=1).metrics["converged"]
    True
    >>> fit(images, "out/arrays", 10)
    Result('out/arrays': 10 clusters of 60,000 images, 48 iterations, inertia 2,368,129)

    Args:
      shards: folder of the shards. Or images that `shard` takes as objects: they are sharded into
        `output`/shards first, with its defaults.
      output: folder for the result.
      k: number of clusters.
      callbacks: are told of every iteration, and may stop the fit; see `kmeans_job.callbacks`.
      options: the fields of `job.config.FitConfig`: `init`, `seed`, `restarts`, `overwrite` …

    Returns:
      The result, as `load_result` loads it.

    Raises:
      TypeError: an option does not exist; the message names the nearest.
      UserError: an option, the shards or the output folder is at fault.
    """
    config, also = _fit_config(shards, output, k, options)
    if also:
        from kmeans_job import images

        images.shard_for_fit(shards, config, [k])
    from job import fit as command

    command.fit(config, also, followers=callbacks)
    return load_result(output)


def sweep(
    shards: Images, output: Path, ks: Iterable[int], **options: Unpack[FitOptions]
) -> dict[str, Any]:
    """Fits several k and compares them, as `kmeans-job fit --k 8,10,16` does.

    >>> found = sweep("out/shards", "out/sweep", [8, 10, 16])
    >>> [fit["inertia"] for fit in found["fits"]], found["elbow"]
    ([4958.2, 4567.4, 3921.7], 10)
    >>> load_result("out/sweep/k=10")
    Result('out/sweep/k=10': 10 clusters of 1,797 images, 14 iterations, inertia 4,567)

    Args:
      shards: as `fit` takes them.
      output: folder for the results, which lie in `output`/k=8 …, and for sweep.html.
      ks: numbers of clusters, each once.
      options: as `fit` takes them.

    Returns:
      The content of sweep.json: in `fits` the metrics of each k by ascending k; in `elbow` the k
      from which on more clusters gain little, or None.

    Raises:
      TypeError, UserError: as `fit`.
    """
    try:
        numbers = parse_ks(",".join(map(str, ks)))
    except ValueError as error:
        raise UserError(f"ks: {error}") from None
    config, also = _fit_config(shards, output, max(numbers), options)
    sweep_configs(config, numbers)  # raises here, before any work, if a k is not allowed
    if also:
        from kmeans_job import images

        images.shard_for_fit(shards, config, numbers)
    from job import sweep as command

    return command.fit_each(config, numbers, also)


def assign(
    model: Path, input: Images, output: Path, **options: Unpack[AssignOptions]
) -> "AssignmentsManifest":
    """Finds the nearest centroid of new images, as `kmeans-job assign` does.

    >>> assign("out", "digits", "new").num_images
    1797

    Args:
      model: folder of a fit's result.
      input: images, as `shard` takes them.
      output: folder for the assignments.
      options: the fields of `pipeline.config.AssignConfig`: `split`, `image_size` …

    Returns:
      The content of the assignments' manifest.json.

    Raises:
      TypeError: an option does not exist; the message names the nearest.
      UserError: the model, the input, an option or the output folder is at fault.
    """
    from kmeans_job import images

    names, given = images.named(input)
    config = from_keywords(AssignConfig, _quietly(options, model=model, input=names, output=output))
    from job import assign as command

    return command.assign(config, given)


def load_result(folder: Path) -> "Result":
    """Loads the finished result in `folder`: what was found, and what can be done with it.

    >>> result = load_result("out")
    >>> result.centroids.shape
    (10, 64)
    >>> result.findings["outliers"][0]["id"]
    'train/00792'

    Returns:
      The result: its `metrics`, `centroids`, `assignments`, `findings` and `report`. It can
      `predict` and `export`, and a notebook shows it with pictures.

    Raises:
      UserError: there is no finished result, or a file of it cannot be read.
    """
    from kmeans_job import result

    return result.load_result(os.fspath(folder))


def __getattr__(name: str) -> Any:
    """Loads a class, and what it needs (`KMeans`: scikit-learn), when it is first used."""
    if name not in CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(CLASSES[name]), name)


def _quietly(options: Any, **given: Any) -> dict[str, Any]:
    """Returns all options of a call: `given` and `options`, and `quiet` unless that is set."""
    return {"quiet": True, **options, **given}


def _fit_config(
    shards: Images, output: Path, k: int, options: Any
) -> tuple[FitConfig, tuple[str, ...]]:
    """Returns the config of a fit, and which folders of others its output may hold.

    Of images that are objects, it holds the shards.
    """
    is_folder = isinstance(shards, str | os.PathLike)
    folder = shards if is_folder else storage.join(os.fspath(output), SHARDS)
    config = from_keywords(FitConfig, _quietly(options, shards=folder, output=output, k=k))
    return config, () if is_folder else (SHARDS,)


def _show_options(function: Any, config_class: type) -> None:
    """Gives a function the signature that notebooks show: with every option and its default."""
    function.__signature__ = signature(function, config_class, quiet=True)


_show_options(shard, ShardConfig)
_show_options(fit, FitConfig)
_show_options(sweep, FitConfig)
_show_options(assign, AssignConfig)

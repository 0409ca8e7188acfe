"""Images that a Python caller holds, as the commands take them."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from job.config import SHARDS, FitConfig
from job.distribute import cluster
from pipeline import storage
from pipeline.config import ShardConfig
from pipeline.errors import UserError
from pipeline.sources import objects

if TYPE_CHECKING:
    from kmeans_job import Images


def named(images: "Images") -> tuple[Any, "Images | None"]:
    """Returns what a config says of its input, and the images themselves unless they are paths.

    Raises:
      TypeError: they are nothing that can be read.
    """
    if objects.are_paths(images):
        return images, None
    return objects.describe(images), images


def shard_for_fit(images: "Images", config: FitConfig, ks: Sequence[int]) -> None:
    """Shards images into the folder `config.shards`, inside that of the results for `ks`.

    The result must be absent, or else to be overwritten. Shards that are there are written anew:
    nothing tells whether the caller's images are still the same ones.

    Raises:
      UserError: the images, or what is in the folder, is at fault.
    """
    from job.result.folder import prepare_output
    from pipeline.shard import complete_shards, shard

    if group := cluster.discover(config.cluster, os.environ):
        raise UserError(f"{group.source}: shard the images once, then fit on every worker")
    with storage.locked(config.output):
        prepare_output(config.output, ks, config.overwrite, (SHARDS,))
        description = objects.describe(images)
        sharding = ShardConfig(
            input=(description,),
            output=config.shards,
            weight_column=config.weight_column,
            overwrite=config.overwrite,
            quiet=config.quiet,
        )
        complete_shards(sharding)  # raises if there are those of other images
        shard(dataclasses.replace(sharding, overwrite=True), images)

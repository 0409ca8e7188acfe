"""The command `assign`: new images → the nearest centroid, with the findings and the report.

The pipeline finds the centroids; what `job` makes of them travels with it to the workers.
"""

from typing import Any

from pipeline.assign import assign as assign_images
from pipeline.config import AssignConfig
from pipeline.shards.assignments import AssignmentsManifest


def assign(config: AssignConfig, images: Any = None) -> AssignmentsManifest:
    """Finds the nearest centroid of every image of `config.input`, and what to look at among them.

    Args:
      images: what a Python caller gives instead of `config.input`, as for `shard`.

    Returns:
      The content of the assignments' manifest.json.

    Raises:
      UserError: the model, the input, an option or the output folder is at fault.
    """
    from job.result.analysis import ResultAnalysis

    return assign_images(config, images, ResultAnalysis.of)

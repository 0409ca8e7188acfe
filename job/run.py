"""The command `run`: images → shards → a result, all on this machine.

Sharding needs Beam and a fit needs TensorFlow. Each takes a second or more to import and some
hundred megabytes. So the images are sharded in a process of its own, while this one imports
TensorFlow, and neither loads both.
"""

import functools
from collections.abc import Sequence
from typing import Any

from job.config import SHARDS, FitConfig
from job.distribute import preemption, process
from job.other_process import in_other_process
from job.result.folder import prepare_output
from pipeline import storage
from pipeline.config import ShardConfig
from pipeline.shard import complete_shards, shard
from pipeline.terminal import TEXT


def run(
    shards: ShardConfig,
    config: FitConfig,
    ks: Sequence[int],
    messages: tuple[str, str] = ("warning", TEXT),
    guard: preemption.Guard = preemption.unguarded,
) -> dict[str, Any]:
    """Shards images and fits them; leaves out what an earlier run of the same command has done.

    Args:
      shards: where to, from what and how.
      config: of the fit, of several that of the largest k; its output also holds the shards.
      ks: the numbers of clusters: one, or several for a sweep.
      messages: of the process that shards: their level and format, as in `terminal.configure`.
      guard: what to do with signals during the fit, as in `job.fit.fit`.

    Returns:
      What metrics.json says, or sweep.json where there are several `ks`.

    Raises:
      UserError: the input, an option, or the output folder is at fault.
    """
    # The fit locks the folder again, as it does without `run`.
    with storage.locked(config.output):
        prepare_output(config.output, ks, config.overwrite, (SHARDS,))
        if complete_shards(shards) is None:
            with in_other_process(functools.partial(shard, shards), messages) as finish:
                process.prepare(config.k)
                from job import fit, sweep  # with all that they import

                finish()
        else:
            process.prepare(config.k)
            from job import fit, sweep
    if len(ks) > 1:
        return sweep.fit_each(config, ks, (SHARDS,), guard=guard)
    return fit.fit(config, (SHARDS,), guard=guard)

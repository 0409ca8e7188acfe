"""Several k: a fit of each over the same images, and how they compare.

DIR/k=8 …       the results, each as a fit of its own leaves it, to the bit
DIR/sweep.html  the page that compares them
DIR/sweep.json  what it shows; written last
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from job import report
from job.checkpoint import refuse_others
from job.config import FitConfig, k_folder, sweep_configs
from job.distribute.agreement import check_same, made_by_first
from job.distribute.preemption import Guard, unguarded
from job.fit import Session, done_by_workers, identity
from job.result.folder import is_finished, prepare_sweep
from job.result.metrics import METRICS
from job.result.read import read_metrics, read_sweep
from job.result.write import write_sweep
from pipeline import storage
from pipeline.options import recorded
from pipeline.shards.manifest import Manifest

ELBOW_RULE = (
    "Kneedle: of the points of inertia over k, both scaled to 0 … 1, the one farthest below the "
    "line from the first to the last"
)


def fit_each(
    config: FitConfig,
    ks: Sequence[int],
    also: tuple[str, ...] = (),
    clock: Callable[[], float] = time.monotonic,
    guard: Guard = unguarded,
) -> dict[str, Any]:
    """Fits each of `ks` into a folder of its own in `config.output`.

    Images are loaded once, and k-means++ draws once, for the largest k: a fit with a smaller k
    starts from the first of the images that were drawn. Run again after a crash, it resumes and
    leaves alone what is finished.

    Args:
      config: of the largest of `ks`.
      also, clock, guard: as in `job.fit.fit`.

    Returns:
      What sweep.json says.

    Raises:
      UserError: an option, the shards or the output folder is at fault.
    """
    # Only the whole sweep is overwritten: its own fits may resume.
    configs = sweep_configs(dataclasses.replace(config, overwrite=False), ks)
    if done := done_by_workers(config, lambda: read_sweep(config.output), k=sorted(ks)):
        return done
    session = Session(config, clock, guard, num_fits=len(ks))
    config, configs = session.settled(config), [session.settled(each) for each in configs]
    check_same(session.replicas, {"--k": tuple(ks)})
    with contextlib.ExitStack() as stack:
        return _fit_each(session, config, configs, also, stack)


def _fit_each(
    session: Session,
    config: FitConfig,
    configs: Sequence[FitConfig],
    also: tuple[str, ...],
    stack: contextlib.ExitStack,
) -> dict[str, Any]:
    """Does the fits of a sweep, and compares them; `stack` keeps its folder locked."""
    ks = [each.k for each in configs]

    def ready() -> bytes:
        stack.enter_context(storage.locked(config.output))
        prepare_sweep(config.output, ks, config.overwrite, also)
        return json.dumps([c.k for c in configs if _is_finished(c, session.manifest)]).encode()

    finished = json.loads(made_by_first(session.replicas, ready))
    for each in configs:
        if each.k not in finished:
            session.run(each)
    sweep = compare(config, [read_metrics(each.output) for each in reversed(configs)])
    if session.replicas.worker == 0:
        report.write_sweep_page(config.output, sweep)
        write_sweep(config.output, sweep)
    return sweep


def _is_finished(config: FitConfig, manifest: Manifest) -> bool:
    """Tells whether an earlier run has finished this fit.

    Raises:
      UserError: it has finished a fit with other options or images there.
    """
    if not is_finished(config.output):
        return False
    metrics, now = read_metrics(config.output), identity(config, manifest)
    begun = {**metrics["config"], "fingerprint": metrics["fingerprint"]}
    refuse_others(config.output, "sweep", {name: begun.get(name) for name in now}, now)
    return True


def compare(config: FitConfig, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes the content of sweep.json from the metrics of the fits, by ascending k."""
    fits = [
        {
            "k": metrics["num_clusters"],
            "folder": k_folder(metrics["num_clusters"]),
            # Of an older version's results one may not be there, here and below.
            **{metric.name: metrics.get(metric.name) for metric in METRICS},
            **{name: metrics[name] for name in ("iterations", "converged")},
            "seconds": sum(metrics["seconds"].values()),
        }
        for metrics in results
    ]
    ks = [metrics["num_clusters"] for metrics in results]
    about = ("num_images", "num_labelled", "num_features", "fingerprint", "weight_column")
    return {
        **{name: results[0][name] for name in about if name in results[0]},
        "elbow": elbow(ks, [metrics["inertia"] for metrics in results]),
        "elbow_rule": ELBOW_RULE,
        "fits": fits,
        **{name: results[0].get(name) for name in ("versions", "source", "date")},
        "config": {**recorded(config), "k": ks},
    }


def elbow(ks: Sequence[int], inertias: Sequence[float]) -> int | None:
    """Finds the k from which on more clusters gain little; None where the curve has no such bend.

    Satopää, Albrecht, Irwin, Raghavan: Finding a "kneedle" in a haystack (ICDCSW 2011). They
    smooth the curve first; here it is the line through the points as they are.

    Args:
      ks: ascending.
      inertias: one for each.
    """
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return None
    x = (np.array(ks, float) - ks[0]) / (ks[-1] - ks[0])
    y = (np.array(inertias) - inertias[-1]) / (inertias[0] - inertias[-1])
    below = 1 - x - y
    farthest = int(below.argmax())
    return ks[farthest] if below[farthest] > 0 else None

"""Several k: a fit of each over the same images, and how they compare.

DIR/k=8 …       the results, each as a fit of its own leaves it, to the bit
DIR/sweep.html  the page that compares them
DIR/sweep.json  what it shows; written last
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from job import fit as fitting
from job import report
from job.checkpoint import refuse_others
from job.config import FitConfig, k_folder, of_each
from job.result.folder import is_finished, prepare_sweep
from job.result.read import read_metrics
from job.result.write import write_sweep
from pipeline.shards.manifest import Manifest

ELBOW_RULE = (
    "Kneedle: of the points of inertia over k, both scaled to 0 … 1, the one farthest below the "
    "line from the first to the last"
)
COMPARED = (
    *("inertia", "davies_bouldin", "simplified_silhouette"),
    *("purity", "purity_weighted", "nmi", "ari", "accuracy"),
    *("iterations", "converged"),
)


def fit(
    config: FitConfig,
    ks: Sequence[int],
    overwrite: bool = False,
    quiet: bool = True,
    also: tuple[str, ...] = (),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Fits each of `ks` into a folder of `config.output`; what sweep.json says.

    Images are loaded once, and k-means++ draws once: its first images are those of a smaller k.
    Run again after a crash, it goes on, without what is finished.

    Args:
      config: of the largest of `ks`.
      others: as `fitting.fit`.

    Raises:
      UserError: an option, the shards or the output folder is at fault.
    """
    configs = of_each(config, ks)
    session = fitting.Session(config, quiet, clock)
    fitting.agree(session.replicas, {"k": tuple(ks)})

    def ready() -> bytes:
        prepare_sweep(config.output, ks, overwrite, also)
        return json.dumps([c.k for c in configs if _is_finished(c, session.manifest)]).encode()

    finished = json.loads(fitting.from_first(session.replicas, ready))
    for each in configs:
        if each.k not in finished:
            session.fit(each)
    sweep = compare(config, [read_metrics(each.output) for each in reversed(configs)])
    if session.replicas.worker == 0:
        report.write_sweep_page(config.output, sweep)
        write_sweep(config.output, sweep)
    return sweep


def _is_finished(config: FitConfig, manifest: Manifest) -> bool:
    """Whether an earlier run has finished this fit.

    Raises:
      UserError: it has finished another one there.
    """
    if not is_finished(config.output):
        return False
    metrics, now = read_metrics(config.output), fitting.identity(config, manifest)
    begun = {**metrics["config"], "fingerprint": metrics["fingerprint"]}
    refuse_others(config.output, "sweep", {name: begun.get(name) for name in now}, now)
    return True


def compare(config: FitConfig, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What sweep.json says of the metrics of fits, by ascending k."""
    options = dataclasses.asdict(config)
    fits = [
        {
            "k": metrics["num_clusters"],
            "folder": k_folder(metrics["num_clusters"]),
            **{name: metrics[name] for name in COMPARED},
            "seconds": sum(metrics["seconds"].values()),
        }
        for metrics in results
    ]
    ks = [metrics["num_clusters"] for metrics in results]
    return {
        **{name: results[0][name] for name in ("num_images", "num_features", "fingerprint")},
        "elbow": elbow(ks, [metrics["inertia"] for metrics in results]),
        "elbow_rule": ELBOW_RULE,
        "fits": fits,
        "versions": results[0]["versions"],
        "config": {**options, "k": ks},
    }


def elbow(ks: Sequence[int], inertias: Sequence[float]) -> int | None:
    """The k from which on more clusters gain little; None where the curve has no such bend.

    Satopää, Albrecht, Irwin, Raghavan: Finding a "kneedle" in a haystack (ICDCSW 2011), whose
    curve is here the line through the given points, not smoothed.

    Args:
      ks: ascending; inertias: one for each.
    """
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return None
    x = (np.array(ks, float) - ks[0]) / (ks[-1] - ks[0])
    y = (np.array(inertias) - inertias[-1]) / (inertias[0] - inertias[-1])
    below = 1 - x - y
    farthest = int(below.argmax())
    return ks[farthest] if below[farthest] > 0 else None

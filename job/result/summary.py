"""What the terminal shows of a finished fit, and of a finished sweep."""

from typing import Any

from job.result.folder import REPORT, SWEEP_REPORT


def fit_summary(result: dict[str, Any], folder: str) -> str:
    """What the terminal shows of a finished fit: at most ten lines."""
    stopped = "converged" if result["converged"] else "stopped before convergence"
    lines = [
        f"images      {result['num_images']:,} of {result['num_features']:,} pixels",
        f"clusters    {result['num_clusters']}",
        f"iterations  {result['iterations']}, {stopped}",
        f"inertia     {result['inertia']:.10g}",
    ]
    if result["purity"] is not None:
        lines += [
            f"purity      {result['purity']:.4f} mean over clusters, "
            f"{result['purity_weighted']:.4f} over images",
            f"NMI         {result['nmi']:.4f}",
            f"ARI         {result['ari']:.4f}",
            f"accuracy    {result['accuracy']:.4f}",
        ]
    return "\n".join([*lines, f"report      {folder}/{REPORT}"])


def sweep_summary(sweep: dict[str, Any], folder: str) -> str:
    """What the terminal shows of a finished sweep: a line for each k, and the elbow."""
    labelled = sweep["fits"][0]["purity"] is not None
    lines = [f"{'k':>8}  {'inertia':>14}  silhouette" + ("  purity     NMI" if labelled else "")]
    for fit in sweep["fits"]:
        silhouette = fit["simplified_silhouette"]
        line = f"{fit['k']:>8}  {fit['inertia']:>14.10g}  "
        line += f"{'–' if silhouette is None else format(silhouette, '.4f'):>10}"
        if labelled:
            line += f"  {fit['purity']:.4f}  {fit['nmi']:.4f}"
        lines.append(line)
    if sweep["elbow"] is not None:
        lines.append(f"elbow   k = {sweep['elbow']} (Kneedle)")
    return "\n".join([*lines, f"report  {folder}/{SWEEP_REPORT}"])

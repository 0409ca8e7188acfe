"""sweep.html, the page that compares the results of several k, built from sweep.json."""

from typing import Any

from job.config import Ks
from job.report import charts, formatting
from job.report.page import command, template
from job.result.folder import SWEEP_REPORT
from job.result.metrics import METRICS
from pipeline import storage

TEMPLATE = "sweep.html.j2"


def write_sweep_page(folder: str, sweep: dict[str, Any]) -> str:
    """Publishes sweep.html in the folder of the sweep; returns its path.

    Args:
      sweep: the content of sweep.json.
    """
    path = storage.join(folder, SWEEP_REPORT)
    storage.write_bytes(path, build_sweep_page(sweep).encode(errors="backslashreplace"))
    return path


def build_sweep_page(sweep: dict[str, Any]) -> str:
    """Builds the page of a sweep, as HTML, from the content of sweep.json."""
    fits = sweep["fits"]
    measures = [m for m in METRICS if m.over_k and any(fit.get(m.name) is not None for fit in fits)]
    return template(TEMPLATE).render(
        sweep=sweep,
        fits=fits,
        num_labelled=sweep.get("num_labelled", 0),
        measures=measures,
        dataset=formatting.dataset(sweep),
        date=formatting.day(sweep),
        foot=formatting.foot(sweep),
        advice=advice(sweep),
        charts={m.name: _chart(sweep, m.name) for m in measures},
        command=command({**sweep["config"], "k": Ks(sweep["config"]["k"])}),
    )


def _chart(sweep: dict[str, Any], name: str) -> charts.Chart:
    """Draws a measure over the k for which it has a value; on inertia the elbow stands out."""
    fits = [fit for fit in sweep["fits"] if fit[name] is not None]
    ks = [fit["k"] for fit in fits]
    marked = ks.index(sweep["elbow"]) if name == "inertia" and sweep["elbow"] else None
    return charts.chart(ks, [fit[name] for fit in fits], dots=range(len(ks)), marked=marked)


def advice(sweep: dict[str, Any]) -> list[str]:
    """Says in words which k the measures point to: a sentence for each, and whether they agree."""
    fits = [fit for fit in sweep["fits"] if fit.get("simplified_silhouette") is not None]
    if len(fits) < 2:
        return []
    apart = max(fits, key=lambda fit: fit["simplified_silhouette"])
    overlap = min(fits, key=lambda fit: fit["davies_bouldin"])
    said = [
        f"Clusters stand apart most at k = {apart['k']:,} (silhouette "
        f"{formatting.figure(apart['simplified_silhouette'])}) and overlap least at "
        f"k = {overlap['k']:,} (Davies-Bouldin {formatting.figure(overlap['davies_bouldin'])})."
    ]
    ks = {apart["k"], overlap["k"], sweep["elbow"] or apart["k"]}
    if len(ks) == 1:
        return [*said, f"All measures point to k = {apart['k']:,}: look at its report first."]
    named = ", ".join(f"{k:,}" for k in sorted(ks))
    return [*said, f"They do not agree: compare the reports of k = {named}."]

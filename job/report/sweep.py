"""The page that compares the results of several k: sweep.html, built from what sweep.json says."""

from typing import Any, NamedTuple

from job.config import Ks
from job.report import charts as pictures
from job.report.page import command, template
from job.result.folder import SWEEP_REPORT
from pipeline import storage

TEMPLATE = "sweep.html.j2"


class Measure(NamedTuple):
    """A column of the table and its chart: name in sweep.json, title, what is good."""

    name: str
    title: str
    note: str


MEASURES = (
    Measure("inertia", "Inertia", "falls with every k; look for the bend"),
    Measure("simplified_silhouette", "Simplified silhouette", "how far apart; high is good"),
    Measure("davies_bouldin", "Davies-Bouldin", "mean worst overlap; low is good"),
    Measure("purity", "Purity", "mean majority share; rises with k by itself"),
    Measure("nmi", "NMI", "what clusters tell about labels; high is good"),
)


def write_sweep_page(folder: str, sweep: dict[str, Any]) -> str:
    """Publishes sweep.html, the page of a sweep, in the folder of the sweep; its path."""
    path = storage.join(folder, SWEEP_REPORT)
    storage.write_bytes(path, build_sweep_page(sweep).encode("utf-8"))
    return path


def build_sweep_page(sweep: dict[str, Any]) -> str:
    """The page, as HTML, of what sweep.json says."""
    fits = sweep["fits"]
    measures = [m for m in MEASURES if any(fit[m.name] is not None for fit in fits)]
    return template(TEMPLATE).render(
        sweep=sweep,
        fits=fits,
        measures=measures,
        charts={m.name: _chart(sweep, m.name) for m in measures},
        command=command({**sweep["config"], "k": Ks(sweep["config"]["k"])}),
    )


def _chart(sweep: dict[str, Any], name: str) -> pictures.Chart:
    """A measure over k, where it has a value; the elbow stands out on inertia."""
    fits = [fit for fit in sweep["fits"] if fit[name] is not None]
    ks = [fit["k"] for fit in fits]
    marked = ks.index(sweep["elbow"]) if name == "inertia" and sweep["elbow"] else None
    return pictures.chart(ks, [fit[name] for fit in fits], dots=range(len(ks)), marked=marked)

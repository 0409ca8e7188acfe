"""What a notebook shows of a result: its centroids as pictures, and the numbers."""

from typing import NamedTuple

import numpy as np

from job.report import charts, clusters, formatting, pictures
from job.report.confusions import top_labels
from job.report.page import template
from job.result.folder import REPORT
from job.result.metrics import present
from job.result.read import Result
from pipeline import storage

TEMPLATE = "cell.html.j2"
MAX_SHOWN = 50  # clusters, the largest ones: a notebook keeps the cell's text
SIDE = 64  # pixels of a picture


class Cluster(NamedTuple):
    """A cluster as the cell shows it.

    Attributes:
      picture: a data URI of the centroid; None where it is drawn as a line.
      spark: that line, SVG path data.
      label: the most common label and its share; None in an unlabelled set.
    """

    id: int
    size: int
    picture: str | None
    spark: str | None
    label: tuple[str, float] | None


def build_cell(result: Result) -> str:
    """Builds the cell of a result, as HTML without scripts or styles for other cells."""
    metrics = result.metrics
    return template(TEMPLATE).render(
        heading=formatting.heading(metrics),
        dataset=formatting.dataset(metrics),
        metrics=metrics,
        measures=[m for m in present(metrics) if m.line or m.needs == "facts"],
        clusters=_clusters(result),
        side=SIDE,
        report=storage.join(result.folder, REPORT),
    )


def _clusters(result: Result) -> list[Cluster]:
    """The clusters of a result by id, or MAX_SHOWN of the largest."""
    metrics = result.metrics
    sizes = np.array(metrics["cluster_sizes"])
    shown = np.sort(np.argsort(-sizes, kind="stable")[:MAX_SHOWN])
    table = metrics.get("contingency")
    contingency = None if table is None else np.array(table, np.int64)
    names = clusters.shown_label_names(metrics.get("label_names"), contingency)
    seen, _, shape = clusters.as_images(result, result.examples["pixels"][:0])
    uris: list[str | None] = [None] * len(shown)
    sparks: list[str | None] = [None] * len(shown)
    if len(shape) > 1:
        drawn = pictures.as_pictures(pictures.brightened(seen), shape)
        uris = [pictures.data_uri(drawn[c], SIDE) for c in shown]
    else:
        sparks = [*charts.sparks(seen[shown])]
    labels: list[tuple[str, float] | None] = [None] * len(shown)
    if contingency is not None:
        labels = [next(iter(top_labels(contingency[c], names)), None) for c in shown]
    rows = zip(shown, uris, sparks, labels, strict=True)
    return [Cluster(int(c), int(sizes[c]), uri, spark, label) for c, uri, spark, label in rows]

"""What a notebook shows of a result: its centroids as pictures, and the numbers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    measures = [m for m in present(metrics) if m.line or m.needs == "facts"]
    return template(TEMPLATE).render(
        dataset=formatting.dataset(metrics),
        numbers=[(m.title, metrics[m.name], m.judged(m.note)) for m in measures],
        clusters=_clusters(result),
        last=("Page to look at:", storage.join(result.folder, REPORT)),
        **_facts(metrics),
    )


def build_array_cell(
    centroids: np.ndarray, sizes: np.ndarray, facts: dict[str, Any], call: str
) -> str:
    """Builds the cell of a fit of an array, which has no folder.

    Args:
      centroids: [k, d]; pixels in 0 … 1 where images of bytes were clustered.
      sizes: of the clusters, int [k].
      facts: `num_images, image_shape, iterations, converged, inertia`, as in metrics.json.
      call: the call that makes such an estimator.
    """
    shown = _largest(sizes)
    labels = [None] * len(shown)
    return template(TEMPLATE).render(
        dataset=None,
        numbers=[("Inertia", facts["inertia"], "squared distances of all rows to their centers")],
        clusters=_drawn(centroids, facts["image_shape"], sizes, shown, labels),
        last=("Made by", call),
        **_facts({**facts, "num_clusters": len(sizes)}),
    )


def _facts(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns what the heading says, from metrics.json."""
    return {
        "heading": formatting.heading(metrics),
        "iterations": metrics["iterations"],
        "converged": metrics["converged"],
        "num_clusters": metrics["num_clusters"],
        "side": SIDE,
    }


def _clusters(result: Result) -> list[Cluster]:
    """The clusters of a result by id, or MAX_SHOWN of the largest."""
    metrics = result.metrics
    sizes = np.array(metrics["cluster_sizes"])
    shown = _largest(sizes)
    table = metrics.get("contingency")
    contingency = None if table is None else np.array(table, np.int64)
    names = clusters.shown_label_names(metrics.get("label_names"), contingency)
    seen, _, shape = clusters.as_images(result, result.examples["pixels"][:0])
    labels: list[tuple[str, float] | None] = [None] * len(shown)
    if contingency is not None:
        labels = [next(iter(top_labels(contingency[c], names)), None) for c in shown]
    return _drawn(seen, shape, sizes, shown, labels)


def _largest(sizes: np.ndarray) -> np.ndarray:
    """Returns MAX_SHOWN of the largest clusters, ascending."""
    return np.sort(np.argsort(-sizes, kind="stable")[:MAX_SHOWN])


def _drawn(
    seen: np.ndarray,
    shape: Sequence[int],
    sizes: np.ndarray,
    shown: np.ndarray,
    labels: Sequence[tuple[str, float] | None],
) -> list[Cluster]:
    """Draws the clusters `shown`: as pictures if `shape` is that of images, else as lines."""
    uris: list[str | None] = [None] * len(shown)
    sparks: list[str | None] = [None] * len(shown)
    if len(shape) > 1:
        drawn = pictures.as_pictures(pictures.brightened(seen), shape)
        uris = [pictures.data_uri(drawn[c], SIDE) for c in shown]
    else:
        sparks = [*charts.sparks(seen[shown])]
    rows = zip(shown, uris, sparks, labels, strict=True)
    return [Cluster(int(c), int(sizes[c]), uri, spark, label) for c, uri, spark, label in rows]

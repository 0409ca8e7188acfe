"""The summary of a finished fit, or a finished sweep, for the terminal."""

from typing import Any

from job.result.drift import drift_line
from job.result.folder import REPORT, SWEEP_REPORT
from job.result.metrics import Metric, images_per_second, present
from pipeline import storage


def fit_summary(metrics: dict[str, Any], folder: str) -> str:
    """Formats a fit: a line for each fact and some metrics, and the report: at most ten lines."""
    stopped = "converged" if metrics["converged"] else "stopped before convergence"
    # A vector has no pixels, whatever its numbers were made of.
    of = "numbers" if len(metrics["image_shape"]) == 1 else "pixels"
    rate = images_per_second(metrics)
    speed = f", {rate:,.0f} images/s" if rate else ""
    lines = {
        "images": f"{metrics['num_images']:,} of {metrics['num_features']:,} {of}"
        + _labelled(metrics, "; {} of them have a label")
        + (f"; weighted by {metrics['weight_column']}" if "weight_column" in metrics else ""),
        "clusters": f"{metrics['num_clusters']:,}",
        "iterations": f"{metrics['iterations']:,}, {stopped}{speed}",
    }
    for metric in present(metrics):
        if metric.line:
            lines[metric.line] = _text(metric, metrics)
    lines["report"] = storage.join(folder, REPORT)
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items())


def assign_summary(metrics: dict[str, Any], folder: str) -> str:
    """Formats the result of `assign`: images, drift, some metrics and the report."""
    lines = {
        "images": f"{metrics['num_images']:,}" + _labelled(metrics, "; {} of them have a label"),
        "drift": drift_line(metrics),
    }
    for metric in present(metrics):
        if metric.line:
            lines[metric.line] = _text(metric, metrics)
    lines["report"] = storage.join(folder, REPORT)
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items())


def sweep_summary(sweep: dict[str, Any], folder: str) -> str:
    """Formats a sweep: a table with a row for each k, the elbow, and the path of its page."""
    shown = [metric for metric in present(sweep["fits"][0]) if metric.column]
    rows = [["k", *(str(metric.column) for metric in shown)]]
    rows += [[str(fit["k"]), *(_text(metric, fit) for metric in shown)] for fit in sweep["fits"]]
    widths = [max(8, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    if labelled := _labelled(sweep, "labels  {} of {} images have one"):
        lines.append(labelled)
    if sweep["elbow"] is not None:
        lines.append(f"elbow   k = {sweep['elbow']} (Kneedle)")
    return "\n".join([*lines, f"report  {storage.join(folder, SWEEP_REPORT)}"])


def _labelled(values: dict[str, Any], text: str) -> str:
    """Formats how many images have a label and how many there are; "" if all have one, or none."""
    # An older version did not write it.
    labelled, images = values.get("num_labelled", 0), values["num_images"]
    return text.format(f"{labelled:,}", f"{images:,}") if 0 < labelled < images else ""


def _text(metric: Metric, values: dict[str, Any]) -> str:
    value = values[metric.name]
    return "–" if value is None else format(value, metric.form)

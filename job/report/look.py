"""What to look at first: the findings of a result with their pictures, and what to do next."""

from typing import Any, NamedTuple

import numpy as np

from job.report import pictures
from job.report.clusters import as_images
from job.report.confusions import MERGE_PERCENT
from job.report.formatting import bounded, figure, percent
from job.result.examples import FINDING
from job.result.findings import MAX_SHOWN
from job.result.read import Result

MAX_IDS = 200  # characters of an id that can be copied
NAMED = 3  # clusters of the best and of the worst silhouette
MANY_SINGLETONS = 0.1  # share of the clusters
LOW_SILHOUETTE = 0.1
LARGE_SIDE = 32  # pixels; larger images in colour are photos rather than symbols


class Picture(NamedTuple):
    """An image as the page shows it.

    Attributes:
      uri: a data URI; None where it cannot be drawn.
      note: what is said below it.
    """

    id: str
    uri: str | None
    label: str | None
    cluster: int | None
    distance: float | None
    note: str


def look_at(result: Result, names: list[str], merging: int) -> dict[str, Any] | None:
    """Returns what the section shows, by name; None where an older version wrote the result.

    Args:
      names: of the labels.
      merging: how many clusters merge labels.
    """
    found = result.findings
    if found is None:
        return None
    known = _pictures(result, names)

    def picture(name: str, note: str = "") -> Picture:
        plain = Picture(bounded(name, MAX_IDS), None, None, None, None, "")
        return known.get(name, plain)._replace(note=note)

    judged = [c for c in found["clusters"] if c["silhouette"] is not None and c["size"] > 1]
    judged.sort(key=lambda c: (c["silhouette"], c["cluster"]))
    few = len(judged) < 2 * NAMED or result.metrics["num_clusters"] == 1
    return {
        "found": found,
        "worst": [] if few else judged[:NAMED],
        "best": [] if few else judged[: -NAMED - 1 : -1],
        "outliers": [
            picture(o["id"], f"{figure(o['score'], 2)} ×") for o in found["outliers"][:MAX_SHOWN]
        ],
        "duplicates": [
            picture(group[0], f"{len(group):,} times") for group in found["duplicates"][:MAX_SHOWN]
        ],
        "suspects": [
            picture(s["id"], f"{bounded(s['label'], 16)} among {bounded(s['majority_label'], 16)}")
            for s in found["suspects"][:MAX_SHOWN]
        ],
        "steps": next_steps(result.metrics, found, merging),
    }


def _pictures(result: Result, names: list[str]) -> dict[str, Picture]:
    """The images that are shown as findings, by id."""
    rows = result.examples["kinds"] == FINDING
    examples = {name: values[rows] for name, values in result.examples.items()}
    seen, pixels, shape = as_images(result, examples["pixels"])
    uris: list[str | None] = [None] * len(examples["ids"])
    if photos := pictures.photos_of(examples):
        uris = [*pictures.photo_uris(photos)]
    elif len(shape) > 1:
        uris = [*pictures.centroids_and_members(seen[:1], pixels, shape)[1]]
    return {
        str(name): Picture(
            bounded(name, MAX_IDS),
            uri,
            names[label] if 0 <= label < len(names) else None,
            int(cluster),
            float(distance),
            "",
        )
        for name, uri, label, cluster, distance in zip(
            examples["ids"],
            uris,
            examples["labels"].tolist(),
            examples["clusters"],
            examples["distances"],
            strict=True,
        )
    }


def are_photos(metrics: dict[str, Any]) -> bool:
    """Whether the images look like photos, whose means say little: large and in colour."""
    shape = metrics["image_shape"]
    return len(shape) == 3 and min(shape[:2]) >= LARGE_SIDE and not metrics.get("transform")


def next_steps(metrics: dict[str, Any], found: dict[str, Any], merging: int) -> list[str]:
    """Says in words what the numbers suggest to do next; often nothing."""
    steps, k = [], metrics["num_clusters"]
    singletons, silhouette = len(found["singletons"]), metrics.get("simplified_silhouette")
    if singletons and singletons >= MANY_SINGLETONS * k:
        steps.append(
            f"{singletons:,} of {k:,} clusters hold{'s' if singletons == 1 else ''} a single image:"
            " k may be too large, or these images do not belong here."
        )
    if merging > k / 4:
        steps.append(
            f"{merging:,} of {k:,} clusters hold two labels or more with {MERGE_PERCENT} % each: "
            "try a larger k, e.g. several at once with --k."
        )
    if are_photos(metrics):
        steps.append(
            "These are the pixels of images in colour, whose distances are mostly those of light "
            "and colour: to cluster what they show, try an embedding, e.g. --transform "
            "keras:MobileNetV2."
        )
    elif silhouette is not None and silhouette < LOW_SILHOUETTE:
        steps.append(
            f"Clusters hardly stand apart (mean silhouette {figure(silhouette, 2)}): compare "
            "several k, or cluster other features with --transform."
        )
    extra = found["num_duplicates"]
    if extra >= metrics["num_images"] / 100:
        steps.append(
            f"{extra:,} images, {percent(extra / metrics['num_images'])} of the set, repeat the "
            "pixels of another: they pull centroids towards them."
        )
    return steps


def representatives(result: Result) -> list[int]:
    """The row of the image nearest to the centroid among the examples, by cluster; −1: none."""
    examples = result.examples
    nearest = [-1] * result.metrics["num_clusters"]
    rows = np.flatnonzero(examples["kinds"] == "nearest")
    for row in rows[np.lexsort((examples["ids"][rows], examples["distances"][rows]))][::-1]:
        nearest[examples["clusters"][row]] = int(row)
    return nearest

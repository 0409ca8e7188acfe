"""What to look at first: the findings of a result with their pictures, and what to do next."""

from typing import Any, NamedTuple

import numpy as np

from job.report import pictures
from job.report.clusters import as_images
from job.report.confusions import MERGE_PERCENT
from job.report.formatting import bounded, figure, percent
from job.result.examples import FINDING
from job.result.findings import MAX_SHOWN
from job.result.read import Result, is_assigned

MAX_IDS = 200  # characters of an id that can be copied
MAX_OTHERS = 50  # ids with the same pixels as one that is shown
NAMED = 3  # clusters of the best and of the worst silhouette
MANY_SINGLETONS = 0.1  # share of the clusters
LOW_SILHOUETTE = 0.1
MUCH_DRIFT = 0.01  # share of the images
LARGE_SIDE = 32  # pixels; larger images in colour are photos rather than symbols


class Picture(NamedTuple):
    """An image as the page shows it.

    Attributes:
      uri: a data URI; None where it cannot be drawn.
      note: what is said below it.
      also: ids of others with the same pixels, one in a line.
    """

    id: str
    uri: str | None
    label: str | None
    cluster: int | None
    distance: float | None
    note: str
    also: str = ""


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

    def picture(name: str, note: str, others: list[str] | None = None) -> Picture:
        plain = Picture(bounded(name, MAX_IDS), None, None, None, None, "")
        also = "\n".join(bounded(other, MAX_IDS) for other in (others or [])[:MAX_OTHERS])
        return known.get(name, plain)._replace(note=note, also=also)

    judged = [c for c in found["clusters"] if c["silhouette"] is not None and c["size"] > 1]
    judged.sort(key=lambda c: (c["silhouette"], c["cluster"]))
    few = len(judged) < 2 * NAMED or result.metrics["num_clusters"] == 1
    return {
        "found": found,
        "worst": [] if few else judged[:NAMED],
        "best": [] if few else judged[: -NAMED - 1 : -1],
        "farther": [
            picture(one["id"], _times(one)) for one in found.get("farther", [])[:MAX_SHOWN]
        ],
        "outliers": [
            picture(o["id"], f"{figure(o['score'], 2)} ×") for o in found["outliers"][:MAX_SHOWN]
        ],
        "duplicates": [
            picture(group[0], f"{len(group):,} times", group[1:])
            for group in found["duplicates"][:MAX_SHOWN]
        ],
        "suspects": [
            picture(s["id"], f"{bounded(s['label'], 16)} among {bounded(s['majority_label'], 16)}")
            for s in found["suspects"][:MAX_SHOWN]
        ],
        "steps": steps_of_assigned(result.metrics, found)
        if is_assigned(result.metrics)
        else next_steps(result.metrics, found, merging),
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
    return steps + _about_duplicates(metrics, found)


def steps_of_assigned(metrics: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Says in words what the numbers of new images suggest to do next; often nothing."""
    steps = []
    if metrics["drift"] is not None and metrics["drift"] >= MUCH_DRIFT:
        steps.append(
            f"{metrics['num_farther']:,} images, {percent(metrics['drift'])} of the set, are "
            "farther from their centroid than any image of the fit was. Where they are of a new "
            "kind, fit again with them."
        )
    return steps + _about_duplicates(metrics, found)


def _about_duplicates(metrics: dict[str, Any], found: dict[str, Any]) -> list[str]:
    extra = found["num_duplicates"]
    if not extra or extra < metrics["num_images"] / 100:
        return []
    effect = "" if is_assigned(metrics) else ": they pull centroids towards them"
    share = percent(extra / metrics["num_images"])
    return [f"{extra:,} images, {share} of the set, repeat the pixels of another{effect}."]


def _times(one: dict[str, Any]) -> str:
    """How many times as far an image is as the farthest of the fit in its cluster."""
    return f"{figure(one['distance'] / one['farthest'], 3)} ×" if one["farthest"] else "a new one"


def representatives(result: Result) -> list[int]:
    """The row of the image nearest to the centroid among the examples, by cluster; −1: none."""
    examples = result.examples
    nearest = [-1] * result.metrics["num_clusters"]
    rows = np.flatnonzero(examples["kinds"] == "nearest")
    for row in rows[np.lexsort((examples["ids"][rows], examples["distances"][rows]))][::-1]:
        nearest[examples["clusters"][row]] = int(row)
    return nearest

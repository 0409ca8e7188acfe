"""The result of `assign`: what `fit` says of its images, said of new ones, and their drift.

`ResultAnalysis` is what the pipeline takes to its workers, which see each image once, as its
assignment is written. Numbers are sums that are rounded once, or follow from one row for each
image; which pictures are kept follows from ids and distances. So all bytes are those of the set of
images, however it is cut into pieces. Nothing here loads TensorFlow.
"""

import dataclasses
import io
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from job import __version__, report
from job.kmeans.exact_sum import exact_sum, no_terms, rounded
from job.result import write
from job.result.candidates import Candidates, room_for
from job.result.drift import Drift, find_drift
from job.result.examples import Choice, Examples
from job.result.examples import Rows as Columns
from job.result.findings import MAX_SHOWN, Found, Noted, Rows, find, shown_ids
from job.result.folder import CENTROIDS, EXAMPLES, FINDINGS, METRICS, REPORT
from job.result.metrics import Facts, all_metrics, are_unit
from job.result.read import read_assigned, read_findings, read_metrics
from job.result.separation import silhouettes
from pipeline import storage
from pipeline.shards.analysis import Measured, Written
from pipeline.shards.assignments import AssignmentsManifest
from pipeline.shards.manifest import TRANSFORM_FILES

FILES = (METRICS, CENTROIDS, FINDINGS, EXAMPLES, REPORT, *TRANSFORM_FILES)
MERGED_BLOCKS = 16  # whose examples are merged at a time


class Summary:
    """What the result needs of some images: those of one piece, or of several."""

    def __init__(self, analysis: "ResultAnalysis", num_images: int):
        """Begins with no image of a set of `num_images`."""
        self._analysis, self._num_images = analysis, num_images
        self.squared_distances = no_terms()  # an `exact_sum`
        self.examples = Examples({})
        self.candidates: Candidates | None = None
        self.noted: list[Noted] = []
        self._waiting: list[Examples] = []

    def add(self, measured: Measured) -> None:
        """Adds the images of one more block."""
        assigned, second = measured.assigned, np.sqrt(measured.second_squared_distances)
        image_bytes = assigned.block.pixels[:1].nbytes
        self.squared_distances += exact_sum(assigned.squared_distances)
        about = self._analysis
        choice = Choice.of(about.seed, self._num_images, about.num_clusters, max(1, image_bytes))
        self._waiting.append(Examples.of(assigned, choice))
        if len(self._waiting) == MERGED_BLOCKS:
            self._merge_examples()
        own = np.sqrt(assigned.squared_distances)
        self.noted.append(Noted.of(assigned.block, silhouettes(own, second)))
        self._candidates_of(image_bytes).add(assigned)

    def add_bytes(self, data: bytes) -> None:
        """Adds all images of another summary, from what its `to_bytes` returned."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self.squared_distances += arrays["squared_distances"]
        self.examples = self.examples.merge(Examples.from_arrays(arrays))
        self.noted.append(Noted.from_arrays(arrays))
        prefix = "candidate_"
        rows = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
        if rows:
            self._candidates_of(rows["pixels"][:1].nbytes).add_rows(rows)

    def to_bytes(self) -> bytes:
        """Returns all arrays as a file of numpy."""
        self._merge_examples()
        rows = {} if self.candidates is None else self.candidates.rows()
        arrays = {
            "squared_distances": self.squared_distances,
            **self.examples.arrays(),
            **Noted.joined(self.noted).arrays(),
            **{f"candidate_{name}": values for name, values in rows.items()},
        }
        np.savez(file := io.BytesIO(), allow_pickle=False, **arrays)
        return file.getvalue()

    def _merge_examples(self) -> None:
        # Each merge copies all examples so far, so several blocks are merged at a time.
        self.examples = self.examples.merge(*self._waiting)
        self._waiting.clear()

    def _candidates_of(self, image_bytes: int) -> Candidates:
        if self.candidates is None:
            k = self._analysis.num_clusters
            self.candidates = Candidates(k, room_for(k, max(1, image_bytes)))
        return self.candidates


@dataclasses.dataclass(frozen=True)
class ResultAnalysis:
    """What the pipeline learns of new images for the result of `assign`.

    Attributes:
      num_clusters: k.
      seed: of the fit, which chooses examples.
      limits: the largest distance of an image of the fit from its centroid, by cluster, None where
        it had no image; None in all where an older version wrote the model.
    """

    num_clusters: int
    seed: int
    limits: tuple[float | None, ...] | None
    files = FILES

    @classmethod
    def of(cls, folder: str) -> "ResultAnalysis":
        """Makes it for the model in the folder of a result.

        Raises:
          UserError: a file of the result cannot be read.
        """
        metrics, found = read_metrics(folder), read_findings(folder)
        limits = found and tuple(cluster["max_distance"] for cluster in found["clusters"])
        return cls(metrics["num_clusters"], metrics.get("seed") or 0, limits or None)

    def begin(self, num_images: int) -> Summary:
        """Begins the summary of a piece of a set of `num_images`."""
        return Summary(self, num_images)

    def complete(self, written: Written, summaries: Iterable[bytes]) -> None:
        """Writes the result beside the assignments; a few bytes for each image are in memory."""
        folder, manifest = written.folder, written.manifest
        summary = self.begin(manifest.num_images)
        for data in summaries:
            summary.add_bytes(data)
        rows = _rows_of(folder, manifest, summary.noted)
        found, drift = _find(written, rows, self.limits)
        write.write_centroids(folder, written.centroids)
        write.write_findings(folder, found.findings)
        write.write_examples(folder, _columns(summary, found, rows))
        if written.transform is not None:
            name = written.transform.file
            source = storage.join(manifest.model["folder"], name)
            storage.copy(source, storage.join(folder, name))
        metrics = _metrics(written, summary, rows, drift) | {"seed": self.seed}
        report.write_report(folder, metrics)
        write.write_metrics(folder, metrics)


def _rows_of(folder: str, manifest: AssignmentsManifest, noted: list[Noted]) -> Rows:
    columns = ["cluster", "distance", "label"]
    tables = (read_assigned(folder, file.file, columns) for file in manifest.files)
    return Rows.joined(tables, noted)


def _find(
    written: Written, rows: Rows, limits: tuple[float | None, ...] | None
) -> tuple[Found, Drift | None]:
    """Finds what to look at first, and what is farther than the fit's images where it is known."""
    folder, manifest = written.folder, written.manifest
    starts = np.cumsum([0, *(file.num_images for file in manifest.files)])

    def ids(wanted: np.ndarray) -> list[str]:
        found: list[str] = []
        for number, file in enumerate(manifest.files):
            low, high = np.searchsorted(wanted, starts[number : number + 2])
            if low < high:
                column = read_assigned(folder, file.file, ["id"])["id"]
                found += column.take(pa.array(wanted[low:high] - starts[number])).to_pylist()
        return found

    lost = {"rejected": manifest.num_rejected, "skipped": manifest.num_skipped}
    found = find(rows, ids, written.centroids, manifest.label_names, lost)
    if limits is None:
        return found, None
    drift = find_drift(rows, ids, limits)
    for cluster, count, limit in zip(
        found.findings["clusters"], drift.counts.tolist(), limits, strict=True
    ):
        cluster |= {"max_distance_of_fit": limit, "num_farther": count}
    found.findings["farther"] = drift.farther
    return Found(found.findings, found.rows | drift.rows), drift


def _columns(summary: Summary, found: Found, rows: Rows) -> Columns:
    """Makes the columns of examples.npz: the examples, and the findings whose pixels are kept."""
    columns = summary.examples.columns()
    pictures = ("pixels", "thumbnails") if "thumbnails" in columns else ("pixels",)
    candidates = {} if summary.candidates is None else summary.candidates.rows()
    kept = {
        name: each
        for some in filter(None, (columns, candidates))
        for name, *each in zip(some["ids"].tolist(), *(some[n] for n in pictures), strict=True)
    }
    for group in found.findings["duplicates"][:MAX_SHOWN]:
        # Its images have the same pixels: those of any of them will do.
        for name in group:
            if name in kept:
                kept[group[0]] = kept[name]
                break
    farther = [one["id"] for one in found.findings.get("farther", [])[:MAX_SHOWN]]
    names = sorted({*shown_ids(found.findings), *farther} & kept.keys())
    at = np.array([found.rows[name] for name in names], int)
    chosen = [kept[name] for name in names]
    shown = {
        **{name: _column([e[i] for e in chosen], columns[name]) for i, name in enumerate(pictures)},
        "ids": np.array(names, str),
        "labels": rows.labels[at].astype(np.int64),
        "clusters": rows.clusters[at],
        "distances": rows.distances[at],
    }
    return summary.examples.columns(shown)


def _column(values: list[Any], like: np.ndarray) -> np.ndarray:
    """Makes a column of values like those of another column."""
    dtype = np.bytes_ if like.dtype.kind == "S" else like.dtype  # thumbnails may be longer
    return np.array(values, dtype).reshape(len(values), *like.shape[1:])


class _Sums(NamedTuple):
    """Sums over all images, each rounded once; what metrics are made of."""

    counts: np.ndarray
    distances: np.ndarray
    silhouettes: np.ndarray
    contingency: np.ndarray

    @classmethod
    def of(cls, rows: Rows, num_clusters: int, num_labels: int) -> "_Sums":
        counts = np.bincount(rows.clusters, minlength=num_clusters)
        distances = np.zeros(num_clusters)
        ends = np.cumsum(counts)[:-1]
        for cluster, own in enumerate(np.split(np.argsort(rows.clusters, kind="stable"), ends)):
            distances[cluster] = math.fsum(rows.distances[own])
        table = np.zeros((num_clusters, num_labels), np.int64)
        known = rows.labels >= 0
        np.add.at(table, (rows.clusters[known], rows.labels[known]), 1)
        silhouettes = np.array(math.fsum(rows.noted.silhouettes))
        return cls(counts, distances, silhouettes, table)


def _metrics(written: Written, summary: Summary, rows: Rows, drift: Drift | None) -> dict[str, Any]:
    """Computes the content of metrics.json, without `seed`: nothing in it depends on the time."""
    manifest, transform = written.manifest, written.transform
    names = manifest.label_names
    sums = _Sums.of(rows, manifest.num_clusters, len(names or ()))
    shown = {"transform": dataclasses.asdict(transform) if transform else None}
    inertia = rounded(summary.squared_distances)
    facts = Facts(sums, written.centroids.astype(np.float64), inertia, are_unit(shown))
    count = None if drift is None else int(drift.counts.sum())
    return {
        "num_images": manifest.num_images,
        "num_features": written.centroids.shape[1],
        "image_shape": list(written.image_shape),
        "dtype": written.dtype,
        **shown,
        "label_names": None if names is None else list(names),
        "source": manifest.source,
        "model": manifest.model,
        "num_clusters": manifest.num_clusters,
        "num_farther": count,
        "drift": None if count is None else count / max(1, manifest.num_images),
        **all_metrics(facts, names is not None),
        "num_labelled": int(sums.contingency.sum()),
        "cluster_sizes": sums.counts.tolist(),
        "contingency": None if names is None else sums.contingency.tolist(),
        "versions": {"kmeans-job": __version__},
    }

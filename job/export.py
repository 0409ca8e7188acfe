"""The command `export`: the result as things to use, images in folders and lists as CSV.

OUT/export.json        what is exported, and from which result; written first
OUT/cluster-007/…      the images, under their ids (clusters); OUT/outliers/… for the other lists
OUT/clusters.csv       a row for each image; written last
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job import hashing
from job.config import EXPORTED_MODELS, ExportConfig
from job.report import pictures
from job.result.read import Result, is_assigned, load_result
from pipeline import storage
from pipeline.errors import UserError
from pipeline.shards import json_text, thumbnails
from pipeline.shards.block import read_shard
from pipeline.shards.manifest import Manifest, load_manifest
from pipeline.terminal import Progress

MARKER = "export.json"
WRITERS = 8  # files that are written at the same time
MAX_NAME_BYTES = 200  # of a file; longer ones get a digest
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class Pick(NamedTuple):
    """An image to export.

    Attributes:
      row: its row in the assignments.
      file: its path in the output, without the ending of a picture.
      more: columns of its row of the list that the assignments do not have.
    """

    row: int
    file: str
    more: dict[str, Any]


def export(config: ExportConfig) -> int:
    """Exports images and a list of them; run again after a crash, it leaves out what is there.

    Returns:
      How many images the list has; 0 for a model.

    Raises:
      UserError: the result, an option, the images or the output folder is at fault.
    """
    result = load_result(config.run)
    if config.what in EXPORTED_MODELS:
        from job.export_model import export_model

        export_model(result, config)
        return 0
    picks = PICKERS[config.what](result, config)
    writer = _Writer.of(result, config)
    picks = [pick._replace(file=pick.file + writer.ending) for pick in picks]
    present = _prepare(result, config, {pick.file for pick in picks})
    missing = [pick for pick in picks if pick.file not in present]
    if writer.write is not None:
        with Progress("export", len(picks), "images", config.quiet) as progress:
            done = len(picks) - len(missing)
            for _ in writer.write(missing):
                progress.update(done := done + 1)
    text = _list(result, picks, with_files=writer.write is not None)
    storage.write_once(storage.join(config.output, f"{config.what}.csv"), text)
    return len(picks)


def _identity(result: Result, config: ExportConfig) -> bytes:
    if is_assigned(result.metrics):
        facts = {name: result.metrics[name] for name in ("model", "source", "inertia")}
    else:
        facts = {"fingerprint": result.metrics["fingerprint"], "fit": result.metrics["config"]}
    asked = {name: getattr(config, name) for name in ("what", "images", "per_cluster", "link")}
    return json_text.encode({**facts, **asked})


def _prepare(result: Result, config: ExportConfig, files: set[str]) -> set[str]:
    """Makes the output ready; returns the files that a run which died has left there, whole.

    Raises:
      UserError: the output holds something else.
    """
    output, here = config.output, f"--output {config.output}"
    if storage.exists(output) and not storage.is_folder(output):
        raise UserError(f"{here}: a file; give a folder")
    present = set(storage.walk(output)) if storage.exists(output) else set()
    for name in sorted(name for name in present if name.endswith(storage.TEMPORARY_SUFFIX)):
        storage.remove(storage.join(output, name))
        present.remove(name)
    identity, marker = _identity(result, config), storage.join(output, MARKER)
    if f"{config.what}.csv" in present:
        raise UserError(f"{here}: holds a complete export; give another folder")
    if MARKER in present and storage.read_bytes(marker) != identity:
        raise UserError(f"{here}: holds the beginning of another export; give another folder")
    if others := sorted(present - files - {MARKER}):
        raise UserError(f"{here}: holds something else ({others[0]}); give a new or empty folder")
    storage.make_folder(output)
    if MARKER not in present:
        storage.write_once(marker, identity)
    return present


# Which images


def _clusters(result: Result, config: ExportConfig) -> list[Pick]:
    """All images, or so many of each cluster at random; the seed and the ids decide which."""
    rows = np.arange(len(result.assignments))
    if config.per_cluster:
        ids = result.assignments["id"].to_pylist()
        keys = hashing.hashes(hashing.digests(ids), result.metrics["seed"], "export")
        rows = _first_of_each(result, keys, config.per_cluster)
    return _by_cluster(result, rows, "")


def _representatives(result: Result, config: ExportConfig) -> list[Pick]:
    """The images nearest to each centroid, one if no number is given."""
    distances = result.assignments["distance"].to_numpy()
    rows = _first_of_each(result, distances, config.per_cluster or 1)
    return _by_cluster(result, rows, "representatives/")


def _outliers(result: Result, config: ExportConfig) -> list[Pick]:
    """The most unusual images of the set; with a number, the farthest of each cluster."""
    if config.per_cluster:
        distances = result.assignments["distance"].to_numpy()
        return _by_cluster(
            result, _first_of_each(result, -distances, config.per_cluster), "outliers/"
        )
    found = _findings(result)["outliers"]
    rows = _rows_of(result, [outlier["id"] for outlier in found])
    return [
        Pick(row, f"outliers/{rank:03d}-{file_name(outlier['id'])}", {"score": outlier["score"]})
        for rank, (row, outlier) in enumerate(zip(rows, found, strict=True), 1)
    ]


def _duplicates(result: Result, config: ExportConfig) -> list[Pick]:
    """The images with the same pixels, a folder for each group.

    Raises:
      UserError: a number for each cluster is given, which says nothing of groups.
    """
    if config.per_cluster:
        raise UserError("--per-cluster: not with --what duplicates, which come in groups")
    groups = _findings(result)["duplicates"]
    found = [(number, name) for number, group in enumerate(groups) for name in group]
    rows = _rows_of(result, [name for _, name in found])
    return [
        Pick(row, f"duplicates/group-{number:04d}/{file_name(name)}", {"group": number})
        for row, (number, name) in zip(rows, found, strict=True)
    ]


# What to export: a function (result, config) → the images, in the order of the list.
PICKERS: dict[str, Callable[[Result, ExportConfig], list[Pick]]] = {
    "clusters": _clusters,
    "outliers": _outliers,
    "duplicates": _duplicates,
    "representatives": _representatives,
}


def _first_of_each(result: Result, keys: np.ndarray, count: int) -> np.ndarray:
    """The rows of the `count` images of each cluster with the lowest keys [n], then ids."""
    clusters = result.assignments["cluster"].to_numpy()
    ids = np.argsort(np.argsort(np.array(result.assignments["id"].to_pylist(), object)))
    order = np.lexsort((ids, keys, clusters))
    ranks = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
    return order[ranks < count]


def _by_cluster(result: Result, rows: np.ndarray, folder: str) -> list[Pick]:
    width = max(3, len(str(result.metrics["num_clusters"] - 1)))
    chosen = result.assignments.take(pa.array(rows))
    named = zip(rows.tolist(), *(chosen[c].to_pylist() for c in ("id", "cluster")), strict=True)
    return [
        Pick(row, f"{folder}cluster-{cluster:0{width}d}/{file_name(name)}", {})
        for row, name, cluster in named
    ]


def _rows_of(result: Result, ids: list[str]) -> list[int]:
    """The rows of images in the assignments."""
    places = pc.index_in(pa.array(ids, pa.string()), value_set=result.assignments["id"])
    return places.to_pylist()


def _findings(result: Result) -> dict[str, Any]:
    if result.findings is None:
        raise UserError(
            f"{result.folder}: no findings.json, as an older version wrote it; fit again"
        )
    return result.findings


def file_name(image_id: str) -> str:
    """Makes a file's name of an id: different for different ids, and safe in every storage.

    Letters and digits of all scripts stay; what else might mean something is written as %2F.
    """

    def escaped(place: int, character: str) -> str:
        plain = character.isalnum() or character in "-_ ()+=@," or (character == "." and place)
        return character if plain else "".join(f"%{byte:02X}" for byte in character.encode())

    name = "".join(escaped(place, character) for place, character in enumerate(image_id))
    hazardous = name.endswith((" ", ".", storage.TEMPORARY_SUFFIX))
    if len(name.encode()) <= MAX_NAME_BYTES and not hazardous:
        return name or "%"
    stem, ending = os.path.splitext(name)
    digest = f"{hashing.digests([image_id])[0]:016x}"
    kept = stem.encode()[: MAX_NAME_BYTES - 40].decode(errors="ignore")
    return f"{kept}-{digest}{ending if ending.isascii() and 1 < len(ending) <= 8 else ''}"


# How images are written


class _Writer(NamedTuple):
    """A way to write images.

    Attributes:
      write: function (picks) → yields once for each that is written; None: lists alone.
      ending: of the files, where their ids have none.
    """

    write: Callable[[list[Pick]], Iterator[None]] | None
    ending: str

    @classmethod
    def of(cls, result: Result, config: ExportConfig) -> "_Writer":
        """Chooses how, by what the user gave and the shards hold.

        Raises:
          UserError: there is nothing to make pictures of, or it cannot be linked.
        """
        if config.images is not None:
            return cls(lambda picks: _originals(result, config, picks), "")
        if config.link:
            raise UserError("--link: of which files? Give their folder: --images FOLDER")
        if is_assigned(result.metrics):
            if config.what == "clusters" and not config.per_cluster:
                raise UserError(
                    f"--run {config.run}: images that were assigned, whose pixels are in no "
                    "shards; give the folder of the images: --images FOLDER"
                )
            return cls(None, "")
        if len(result.metrics["image_shape"]) > 1:
            return cls(lambda picks: _from_shards(result, config, picks), ".png")
        if "thumbnails" in result.examples:
            thumbnail = thumbnails.from_column(result.examples["thumbnails"][:1])[0]
            ending = thumbnails.ending_of(thumbnail)
            return cls(lambda picks: _from_shards(result, config, picks), ending)
        if config.what == "clusters" and not config.per_cluster:
            raise UserError(
                "--what clusters: the shards hold vectors and no pictures; give the folder of the "
                "images: --images FOLDER"
            )
        return cls(None, "")


def _originals(result: Result, config: ExportConfig, picks: list[Pick]) -> Iterator[None]:
    """Copies or links the files in config.images that the ids name."""
    assert config.images is not None
    if config.link and not (storage.is_local(config.images) and storage.is_local(config.output)):
        raise UserError("--link: only between local folders; leave it out to copy")
    ids = result.assignments["id"].take(pa.array([pick.row for pick in picks], pa.int64()))
    sources = [_path_of(config.images, name) for name in ids.to_pylist()]
    if sources and not storage.exists(sources[0]):
        raise UserError(
            f"--images {config.images}: {sources[0]} is not there; give the folder that the ids "
            "start from, as it was sharded"
        )

    def write(place: int) -> None:
        target = storage.join(config.output, picks[place].file)
        if config.link:
            storage.make_folder(os.path.dirname(target))
            os.symlink(os.path.abspath(sources[place]), target)
        else:
            storage.copy(sources[place], target)

    yield from _in_parallel(write, range(len(picks)))


def _path_of(folder: str, image_id: str) -> str:
    """The file of an image; ids hold bytes that are not UTF-8 as `\\xff`."""
    name = os.fsdecode(_ESCAPE.sub(lambda e: bytes([int(e[1], 16)]), image_id.encode()))
    if os.path.isabs(name) or ".." in name.split("/"):
        raise UserError(f"--images {folder}: the id {image_id} is no path in it")
    return storage.join(folder, name)


def _from_shards(result: Result, config: ExportConfig, picks: list[Pick]) -> Iterator[None]:
    """Writes pictures of the images that the shards hold, shard by shard."""
    folder = result.metrics["config"]["shards"]
    manifest = _shards_of(result, folder)
    by_row = {pick.row: pick for pick in picks}
    shape, first = manifest.image_shape, 0
    for shard in manifest.shards:
        if any(row in by_row for row in range(first, first + shard.num_images)):
            for block in read_shard(folder, shard, manifest):
                places = [i for i in range(len(block.ids)) if first + i in by_row]
                files = [by_row[first + i].file for i in places]
                if len(shape) > 1:
                    pixels = pictures.as_pictures(block.pixels[places], shape)
                    drawn = [pictures.png(picture) for picture in pixels]
                else:
                    drawn = [(block.thumbnails or [])[i] for i in places]
                ready = list(zip(files, drawn, strict=True))
                yield from _in_parallel(lambda one: _write_picture(config.output, *one), ready)
                first += len(block.ids)
        else:
            first += shard.num_images


def _shards_of(result: Result, folder: str) -> Manifest:
    """Reads the manifest of the shards that were fitted.

    Raises:
      UserError: they are gone, or others now.
    """
    remedy = "give the folder of the images instead: --images FOLDER"
    try:
        manifest = load_manifest(folder)
    except UserError as error:
        raise UserError(f"{error}; or {remedy}") from error
    if manifest.fingerprint != result.metrics["fingerprint"]:
        raise UserError(f"{folder}: other images than those that were fitted; {remedy}")
    return manifest


def _write_picture(folder: str, name: str, picture: bytes) -> None:
    storage.write_bytes(storage.join(folder, name), picture)


def _in_parallel(write: Callable[[Any], None], things: Iterable[Any]) -> Iterator[None]:
    """Calls `write` for each thing, several at a time; yields as they are done."""
    pool = ThreadPoolExecutor(WRITERS)
    try:
        yield from pool.map(write, things)
    finally:
        pool.shutdown(cancel_futures=True)


def _list(result: Result, picks: list[Pick], with_files: bool) -> bytes:
    """Makes the CSV: file, if there are any, id, label, cluster, distance and more."""
    table = result.assignments.take(pa.array([pick.row for pick in picks], pa.int64()))
    columns = [table[c].to_pylist() for c in ("id", "label_name", "cluster", "distance")]
    more = list(picks[0].more) if picks else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    head = ["file"] if with_files else []
    writer.writerow([*head, "id", "label", "cluster", "distance", *more])
    for pick, *values in zip(picks, *columns, strict=True):
        files = [pick.file] if with_files else []
        writer.writerow([*files, *values, *(pick.more[name] for name in more)])
    return text.getvalue().encode()

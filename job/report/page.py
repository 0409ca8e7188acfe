"""report.html, built from the files of a result folder.

Two steps: Python computes plain values, then the template places and escapes them. The page is
self-contained, and its content security policy blocks everything from outside.
"""

import base64
import functools
import hashlib
import os
import shlex
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from job.config import FitConfig
from job.report import charts, clusters, confusions, formatting, image_map, look
from job.result.examples import Rows as Columns
from job.result.folder import REPORT
from job.result.metrics import images_per_second, present
from job.result.read import Result, is_assigned, read, read_metrics
from pipeline import storage
from pipeline.options import flag_of, is_required, options_of
from pipeline.terminal import PROGRAM

FOLDER = Path(__file__).parent / "templates"
TEMPLATE = "page.html.j2"
MANY, PAGE = 60, 30  # clusters that are many, and how many of those a page shows at a time
NAMED = 10  # clusters that a sentence names
STRONGEST = 20  # sentences of each kind about labels that are shown at first
MAX_FACT = 2_000  # characters of a list of options or versions


def write_report(
    folder: str, metrics: dict[str, Any] | None = None, examples: Columns | None = None
) -> str:
    """Builds the report of the result in `folder` and publishes it there as report.html.

    Args:
      metrics: the content of metrics.json, if that is not written yet.
      examples: the columns of examples.npz, if they are in memory.

    Returns:
      The path of the page.
    """
    path = storage.join(folder, REPORT)
    page = build_report(folder, metrics, examples)
    storage.write_bytes(path, page.encode(errors="backslashreplace"))
    return path


def build_report(
    folder: str, metrics: dict[str, Any] | None = None, examples: Columns | None = None
) -> str:
    """Builds the report of the result in `folder`, as HTML; all as in `write_report`."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return template(TEMPLATE).render(
        view(read(folder, read_metrics(folder) if metrics is None else metrics, examples)),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


@functools.cache
def template(name: str) -> jinja2.Template:
    """Loads a template once, with the style, the number formats and the sizes of drawings."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bounded=formatting.bounded,
        duration=formatting.duration,
        figure=formatting.figure,
        percent=formatting.percent,
        words=formatting.number_word,
    )
    style = Markup((FOLDER / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(name, globals={"style": style, "box": charts})


def view(result: Result) -> dict[str, Any]:
    """Computes the values of the template's variables, by name."""
    metrics = result.metrics
    table = metrics.get("contingency")
    contingency = None if table is None else np.array(table, np.int64)
    names = clusters.shown_label_names(metrics.get("label_names"), contingency)
    described = clusters.describe(result, contingency, names)
    found = None if contingency is None else confusions.find(contingency, names)
    return {
        "metrics": metrics,
        "assigned": is_assigned(metrics),
        "heading": formatting.heading(metrics),
        "dataset": formatting.dataset(metrics),
        "date": formatting.day(metrics),
        "foot": formatting.foot(metrics),
        "rate": images_per_second(metrics),
        "num_labelled": 0 if contingency is None else int(contingency.sum()),
        "weighted": "cluster_weights" in metrics,
        "measures": list(present(metrics)),
        "clusters": described,
        "look": look.look_at(result, names, len(found.merges) if found else 0),
        "images": image_map.image_map(result, names),
        "base": base_of(metrics),
        "photos": look.are_photos(metrics) or clusters.only_members(described),
        "many": len(described) > MANY,
        "page": PAGE if len(described) > MANY else len(described),
        "heat": None if contingency is None else confusions.heat(contingency, names),
        "confusions": found,
        "strongest": STRONGEST,
        "named": NAMED,
        "map": None if len(described) > MANY else map_of(result),
        "close": clusters.close_pairs(described),
        "charts": iteration_charts(result.history),
        "history": result.history,
        "transform": formatting.transform_note(
            metrics.get("transform"), result.drawable, described[0].seen
        ),
        "command": command_of_assigned(metrics)
        if is_assigned(metrics)
        else command(metrics.get("config") or {}),
        "columns": grid_columns(len(described)),
        "sizes": (min(metrics["cluster_sizes"]), max(metrics["cluster_sizes"])),
        "facts": run_facts(metrics),
        "seconds": sum((metrics.get("seconds") or {}).values()),
        "merge_percent": confusions.MERGE_PERCENT,
    }


def base_of(metrics: dict[str, Any]) -> str | None:
    """Returns the URL of the folder that ids are paths in; None where that is not known."""
    given = (metrics.get("source") or {}).get("input")
    if not isinstance(given, str) or not os.path.isabs(given) or not os.path.isdir(given):
        return None
    return Path(given).as_uri()


def map_of(result: Result) -> charts.Map | None:
    """Draws the map of the centroids; None if there is only one centroid."""
    if len(result.centroids) < 2:
        return None
    return charts.centroid_map(result.centroids, result.metrics["cluster_sizes"])


def iteration_charts(history: list[dict[str, Any]]) -> dict[str, charts.Chart]:
    """Draws inertia and changed images over iterations; empty if there is no history."""
    if not history:
        return {}
    iterations = [row["iteration"] for row in history]
    return {
        "inertia": charts.chart(iterations, [row["inertia"] for row in history]),
        "changed": charts.chart(iterations, [row["changed"] for row in history], logarithmic=True),
    }


def grid_columns(num_clusters: int) -> int:
    """Returns how many centroids a row shows: five as in the article, ten if there are many."""
    return 10 if num_clusters > 30 else min(5, num_clusters)


def run_facts(metrics: dict[str, Any]) -> dict[str, str]:
    """Returns the facts needed to trust or repeat the run, by the titles on the page."""
    seconds, versions = metrics.get("seconds") or {}, metrics.get("versions") or {}
    facts = {
        "Fingerprint of the model": (metrics.get("model") or {}).get("fingerprint"),
        "Transform": (metrics.get("transform") or {}).get("spec"),
        "Fingerprint of the images": metrics.get("fingerprint"),
        "Algorithm": metrics.get("algorithm"),
        "Replicas": metrics.get("replicas"),
        "Workers": metrics.get("workers"),
        "Time": _list({name: formatting.duration(value) for name, value in seconds.items()}),
        "Versions": _list(versions),
        "Options": _list(metrics.get("config") or {}),
    }
    return {
        name: formatting.bounded(value, MAX_FACT)
        for name, value in facts.items()
        if value not in (None, "")
    }


def command(config: dict[str, Any]) -> str:
    """Writes the command that gives this result again, from its `config` in metrics.json.

    Options that do not decide the bits are left out if they have their defaults.
    """
    words = []
    for field, known in options_of(FitConfig):
        value = config.get(field.name)
        matters = is_required(field) or known.decides_bits or value != field.default
        if value is not None and known.recorded and matters:
            text = f"{value:.17g}" if isinstance(value, float) else str(value)
            # A value that begins with a dash would be taken for a flag.
            flag = flag_of(field.name)
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return " ".join(_shell_word(word) for word in [PROGRAM, "fit", *words])


def command_of_assigned(metrics: dict[str, Any]) -> str:
    """Writes the command that assigns the same images again, but for where to."""
    source, words = metrics["source"], []
    given = source["input"]
    for spec in [given] if isinstance(given, str) else given:
        words += ["--input", str(spec)]
    for name, value in source.items():
        if name == "image_size":
            words += [flag_of(name), "x".join(map(str, value))]
        elif name != "input":
            words += [flag_of(name), str(value)]
    words = [PROGRAM, "assign", "--model", str(metrics["model"]["folder"]), *words, "--output"]
    return " ".join([*map(_shell_word, words), "DIR"])


def _shell_word(word: str) -> str:
    r"""Quotes a word for a shell; what no page can show as it is, as in $'caf\351'."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_in_ansi_c_quotes, word)) + "'"


def _in_ansi_c_quotes(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    # Always three digits, so that no digit which follows is taken for one of them.
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def _list(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)

"""Writes what follows from the configs: tables in docs/*.md, types of keywords in kmeans_job/.

python docs/options.py
"""

import dataclasses
import re
from pathlib import Path

from job.cloud.config import CloudConfig
from job.config import ExportConfig, FitConfig
from job.result.metrics import METRICS
from pipeline.config import AssignConfig, ShardConfig
from pipeline.options import Option, is_required, options_of, table

CONFIGS = {
    "shard": ShardConfig,
    "fit": FitConfig,
    "assign": AssignConfig,
    "export": ExportConfig,
    "submit": CloudConfig,
}
KEYWORDS = Path(__file__).parents[1] / "kmeans_job" / "keywords.py"
MARKED = re.compile(r"(<!-- (?:options: (\w+)|metrics) -->\n).*?(<!-- end -->)", re.DOTALL)


def metrics_table() -> str:
    """The metrics of METRICS, as a table of Markdown."""
    rows = [
        f"| `{metric.name}` | {metric.judged(metric.note)} | "
        f"{'yes' if metric.needs == 'contingency' else ''} |\n"
        for metric in METRICS
    ]
    return "".join(["| key | what it says | needs labels |\n", "|---|---|---|\n", *rows])


def with_tables(text: str) -> str:
    """A page with the tables that its markers ask for, as the code has them now."""

    def marked(found: re.Match) -> str:
        of = found[2]
        return f"{found[1]}{table(CONFIGS[of]) if of else metrics_table()}{found[3]}"

    return MARKED.sub(marked, text)


def keywords() -> str:
    """The module with the types of the keywords of the functions in Python, from the configs."""
    text = '''"""Types of the options of functions, for type checkers and editors.

Written by docs/options.py from the configs, where each option is described.
"""

import os
from typing import TypedDict

Path = str | os.PathLike[str]
'''
    for name, config in CONFIGS.items():
        if name == "submit":
            continue
        text += f"\n\nclass {name.capitalize()}Options(TypedDict, total=False):\n"
        where = f"{config.__module__}.{config.__name__}"
        text += f'    """The options of `{name}`: those of {where}."""\n\n'
        for field, known in options_of(config):
            if not is_required(field):
                text += f"    {field.name}: {_hint(field, known)}\n"
    return text


def _hint(field: dataclasses.Field, known: Option) -> str:
    """The type of a field's values: where any text may be given, a path may be."""
    hint = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    is_open = not known.choices and known.parse is None and "NAME" not in (known.metavar or "")
    return re.sub(r"^str\b", "Path", hint) if is_open else hint


def main() -> None:
    """Rewrites every page beside this script, and the module of keywords."""
    KEYWORDS.write_text(keywords(), encoding="utf-8")
    for page in sorted(Path(__file__).parent.glob("*.md")):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Writes the tables of options and metrics into docs/*.md, between their markers.

python docs/options.py
"""

import re
from pathlib import Path

from job.cloud.config import CloudConfig
from job.config import ExportConfig, FitConfig
from job.result.metrics import METRICS
from pipeline.config import AssignConfig, ShardConfig
from pipeline.options import table

CONFIGS = {
    "shard": ShardConfig,
    "fit": FitConfig,
    "assign": AssignConfig,
    "export": ExportConfig,
    "submit": CloudConfig,
}
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


def main() -> None:
    """Rewrites every page beside this script."""
    for page in sorted(Path(__file__).parent.glob("*.md")):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

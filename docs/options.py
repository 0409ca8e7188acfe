"""Writes the tables of options into docs/*.md, between their markers: python docs/options.py."""

import re
from pathlib import Path

from job.cloud.config import CloudConfig
from job.config import FitConfig
from pipeline.config import AssignConfig, ShardConfig
from pipeline.options import table

CONFIGS = {"shard": ShardConfig, "fit": FitConfig, "assign": AssignConfig, "submit": CloudConfig}
MARKED = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with the tables that its markers ask for, as the configs' fields have them now."""
    return MARKED.sub(lambda found: f"{found[1]}{table(CONFIGS[found[2]])}{found[3]}", text)


def main() -> None:
    """Rewrites every page beside this script."""
    for page in sorted(Path(__file__).parent.glob("*.md")):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Pages for people: report.html of a result, sweep.html of a sweep."""

from job.report.page import build_report, write_report
from job.report.sweep import build_sweep_page, write_sweep_page

__all__ = ["build_report", "build_sweep_page", "write_report", "write_sweep_page"]

"""The report: what lies in a result folder → report.html."""

from job.report.page import build, write

__all__ = ["build", "write"]

"""What a person looks at: a result folder → report.html, a sweep → sweep.html."""

from job.report.page import build, write
from job.report.sweep import build as build_sweep
from job.report.sweep import write as write_sweep

__all__ = ["build", "build_sweep", "write", "write_sweep"]

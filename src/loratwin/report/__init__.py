"""Reports: one self-contained HTML file each."""

from loratwin.report.plan_report import plan_report
from loratwin.report.run_report import run_report

__all__ = ["plan_report", "run_report"]

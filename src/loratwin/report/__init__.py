"""Reports: one self-contained HTML file each."""

from loratwin.report.plan_report import plan_report

__all__ = ["plan_report"]

"""The report of a comparison of task weightings."""

from medmtl.report.comparison.build import build_comparison_report, is_comparison
from medmtl.report.comparison.console import console_table

__all__ = ["build_comparison_report", "console_table", "is_comparison"]

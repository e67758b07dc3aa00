"""Reports: one self-contained HTML file for a training run, an evaluation or a folder of predictions."""

from medmtl.report.build import build_report

__all__ = ["build_report"]

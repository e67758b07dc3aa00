"""The report of a batch prediction: the cohort on one page, and a page per study."""

from medmtl.report.prediction.cohort import cohort_sections
from medmtl.report.prediction.pages import draw_pages

__all__ = ["cohort_sections", "draw_pages"]

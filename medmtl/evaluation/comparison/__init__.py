"""Task weightings compared with each other and with networks that learn one task each."""

from medmtl.evaluation.comparison.compare import Comparison, compare, design_comparison
from medmtl.evaluation.comparison.delta import change_percent, changes_percent, delta_m_percent
from medmtl.evaluation.comparison.design import Design
from medmtl.evaluation.comparison.directions import HIGHER_IS_BETTER, choose_metrics, higher_is_better
from medmtl.evaluation.comparison.methods import SINGLE, Method, parse_methods

__all__ = [
    "HIGHER_IS_BETTER",
    "SINGLE",
    "Comparison",
    "Design",
    "Method",
    "change_percent",
    "changes_percent",
    "choose_metrics",
    "compare",
    "delta_m_percent",
    "design_comparison",
    "higher_is_better",
    "parse_methods",
]

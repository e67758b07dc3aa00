"""One colour and line style per method, the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medmtl.report.canvas import INK, series_style
from medmtl.report.comparison.material import SINGLE, ComparisonMaterial

MOST = 8
"""Methods that one panel can show."""


_LONGEST = 26
"""Letters of a method's name that a figure has room for."""


def short(method: str) -> str:
    """A method's name that fits into a figure."""
    return method if len(method) <= _LONGEST else f"{method[: _LONGEST - 1]}…"


def style_of(material: ComparisonMaterial, method: str) -> dict[str, Any]:
    """Colour and line style of a method."""
    if method == SINGLE:
        return {"color": INK, "linestyle": (0, (1, 1.2))}
    return series_style(material.methods.index(method))


def shown_methods(material: ComparisonMaterial, most: int = MOST) -> Sequence[str]:
    """All methods, or where they are too many for one panel the reference, the best and the worst."""
    names = material.best_first()
    if len(names) <= most:
        return names
    reference = str(material.summary["reference"])
    others = [name for name in names if name != reference]
    kept = {reference, *others[: most - most // 3 - 1], *others[-(most // 3) :]}
    return [name for name in names if name in kept]


def left_out(material: ComparisonMaterial, shown: Sequence[str]) -> str:
    """What a caption says of methods that are not drawn."""
    missing = len(material.methods) - len(shown)
    return f" {missing} methods between the best and the worst are not drawn." if missing else ""

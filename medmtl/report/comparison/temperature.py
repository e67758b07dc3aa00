"""Delta-m against the temperature of UW-SO, where several were compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmtl.report.blocks import Figure, Section
from medmtl.report.canvas import INK, dress, legend, new_figure, plain, series_style, to_svg
from medmtl.report.comparison.material import ComparisonMaterial
from medmtl.report.comparison.ranking import changes, signed

WITH_TEMPERATURE = "uw-so"


def temperature_section(material: ComparisonMaterial) -> Section | None:
    """A curve for each set of other options; None where fewer than two temperatures were compared."""
    curves = _curves(material)
    if not curves:
        return None
    figure = new_figure(6.4, 3.6)
    axis = figure.subplots()
    dress(axis, "UW-SO: delta-m against T", "temperature T", "delta-m [%]")
    said = []
    for number, (options, points) in enumerate(curves.items()):
        style = series_style(number)
        temperatures = sorted(points)
        means = [float(material.mean(points[t]) or 0.0) for t in temperatures]
        axis.plot(temperatures, means, marker="o", linewidth=1.8, label=plain(options or "uw-so"), **style)
        for t in temperatures:
            values = changes(material, points[t])
            axis.plot([t] * len(values), values, "o", color=style["color"], markersize=3, alpha=0.5)
        said += [f"T = {t:g}: {signed(mean)} %" for t, mean in zip(temperatures, means, strict=True)]
    axis.set_xscale("log")
    _ticks(axis, sorted({t for points in curves.values() for t in points}))
    axis.axhline(0, color=INK, linewidth=0.9)
    if (equal := material.mean("ew") if "ew" in material.methods else None) is not None:
        axis.axhline(equal, color=INK, linewidth=1.0, linestyle="--", label="ew")
    legend(axis)
    section = Section("temperature", "Temperature")
    section.blocks.append(
        Figure(
            to_svg(figure, "temperature", f"Line chart of delta-m against temperature: {', '.join(said)}."),
            "Delta-m of UW-SO against its temperature.",
            "Small dots are seeds, the line at 0 is single-task networks. As T grows, weights become equal; "
            "as it shrinks, the task with the smallest loss takes all. The best T depends on the scale of "
            "the losses, and a T that is best on these cases was chosen by them: confirm it on others.",
        )
    )
    return section


def _ticks(axis: Any, temperatures: list[float]) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks(temperatures, [f"{t:g}" for t in temperatures])


def _curves(material: ComparisonMaterial) -> Mapping[str, Mapping[float, str]]:
    """By other options, the method of each temperature; only where there are two temperatures or more."""
    found: dict[str, dict[float, str]] = {}
    for name, section in material.description["methods"].items():
        options = {key: value for key, value in section.items() if key not in ("type", "temperature")}
        if (
            section["type"] == WITH_TEMPERATURE
            and "temperature" in section
            and material.mean(name) is not None
        ):
            key = ", ".join(f"{option} = {value}" for option, value in options.items())
            found.setdefault(key, {})[float(section["temperature"])] = name
    return {key: points for key, points in found.items() if len(points) > 1}

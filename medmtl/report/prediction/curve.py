"""The volume curve of one study as a small drawing, with a line that the page's slider moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 24, 40
_TICKS = 5


@dataclass(frozen=True)
class Curves:
    """Volumes over time.

    Attributes:
        times: of each frame, in ms or frame numbers.
        unit: of the times, for the axis.
        volumes_ml: by structure, one per frame.
        colors: by structure.
        marks: frames with a name, such as ED.
    """

    times: Sequence[float]
    unit: str
    volumes_ml: Mapping[str, Sequence[float]]
    colors: Mapping[str, str]
    marks: Mapping[str, int]


def draw_curves(curves: Curves) -> Markup:
    """SVG; the line ``#cursor`` stands at the first frame and knows where the others are."""
    x_of = _scale(curves.times[0], curves.times[-1], _LEFT, _WIDTH - _RIGHT)
    top = max((max(values) for values in curves.volumes_ml.values()), default=0.0) or 1.0
    ticks = _ticks(top)
    y_of = _scale(0.0, ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts: list[Markup] = []
    for tick in ticks:
        y = y_of(tick)
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
        parts.append(line.format(_LEFT, _WIDTH - _RIGHT, y, y))
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", "end"))
    for time in _some(curves.times):
        parts.append(_text(x_of(time), _HEIGHT - _BOTTOM + 16, f"{time:.0f}", "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, curves.unit, "middle"))
    parts.append(_text(_LEFT - 6, _TOP - 12, "mL", "end"))
    for name, frame in curves.marks.items():
        x = x_of(curves.times[frame])
        mark = Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
        parts.append(mark.format(x, _TOP, _HEIGHT - _BOTTOM))
        parts.append(_text(x + 3, _TOP + 10, name, "start"))
    for structure, values in curves.volumes_ml.items():
        points = " ".join(f"{x_of(t):.1f},{y_of(v):.1f}" for t, v in zip(curves.times, values, strict=True))
        drawn = Markup('<polyline points="{}" style="stroke:{}"><title>{}</title></polyline>')
        parts.append(drawn.format(points, curves.colors[structure], structure))
    places = " ".join(f"{x_of(time):.1f}" for time in curves.times)
    cursor = Markup('<line id="cursor" data-x="{0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>')
    parts.append(cursor.format(places, places.split(" ")[0], _TOP, _HEIGHT - _BOTTOM))
    said = f"Volume of {', '.join(curves.volumes_ml)} over {len(curves.times)} frames."
    opening = Markup('<svg class="curve" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return opening.format(_WIDTH, _HEIGHT, said) + Markup("").join(parts) + Markup("</svg>")


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """From one interval onto another."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (stop - start)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _ticks(top: float) -> list[float]:
    """0 and round numbers up to the first one that is not below ``top``."""
    raw = top / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]


def _some(times: Sequence[float]) -> Sequence[float]:
    """First, last and a few between."""
    count = min(len(times), 6)
    return [times[round(i * (len(times) - 1) / max(count - 1, 1))] for i in range(count)]

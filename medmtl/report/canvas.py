"""Figures without global state: matplotlib objects in, inline SVG or a base64 PNG out.

Text and axes are drawn in one ink that the page turns into its own text colour, so that figures follow a
light, dark or
printed page. Series colours are Okabe and Ito's, which colour-blind readers tell apart; line styles
repeat the message.
"""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
STYLES = ("-", "--", "-.", ":")
INK = "#010203"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def series_style(index: int) -> dict[str, Any]:
    """Colour and line style of series number `index`; the first 24 differ."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": STYLES[index // len(SERIES) % len(STYLES)]}


def plain(text: str) -> str:
    """`text` so that matplotlib draws its dollar signs instead of reading them as mathematics."""
    return text.replace("$", r"\$")


def new_figure(width: float, height: float) -> MplFigure:
    """A transparent figure of `width` x `height` inches that lays its axes out by itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def dress(axes: Axes, title: str, x_label: str = "", y_label: str = "") -> None:
    """Give an axes the report's look: left-aligned title, no box, a light grid, the page's ink."""
    axes.set_facecolor("none")
    axes.set_title(plain(title), loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(plain(x_label), fontsize=9, color=INK)
    axes.set_ylabel(plain(y_label), fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, width=0.6, which="both")
    axes.grid(True, color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.6)


def legend(axes: Axes, columns: int = 1) -> None:
    """A frameless legend in the page's ink, where any series has a label."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=columns, handlelength=2.2)


def log_scale(axis: Axes) -> None:
    """A logarithmic y axis whose ticks read 0.2, 0.5, 1 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    axis.yaxis.set_major_locator(LogLocator(subs=steps))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def to_svg(figure: MplFigure, slug: str, alternative: str) -> Markup:
    """Inline SVG of a figure.

    Args:
        figure: what to draw.
        slug: unique in the page; element ids start with it, so that figures do not share them.
        alternative: text for readers who cannot see the figure.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    drawing = buffer.getvalue()
    body = drawing[drawing.index("<svg") :]
    view_box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', body)
    assert view_box is not None
    body = re.sub(r"<!--.*?-->\s*", "", body[body.index(">") + 1 :], flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{slug}-', body)
    body = (
        body.replace('xlink:href="#', 'href="#')
        .replace('href="#', f'href="#{slug}-')
        .replace("url(#", f"url(#{slug}-")
    )
    body = body.replace(INK, "currentColor").replace(BLUE.lower(), f"var(--blue, {BLUE})")
    opening = Markup('<svg {} style="max-width:{}pt" role="img" aria-label="{}">').format(
        Markup(view_box.group()), view_box[1], alternative
    )
    return opening + Markup(body.strip())


def to_png(figure: MplFigure, alternative: str, dots_per_inch: int = 110) -> Markup:
    """An image element with the figure as a PNG inside its own address."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(dots_per_inch)
    FigureCanvasAgg(figure).print_png(buffer)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, alternative)

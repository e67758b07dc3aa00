"""A page of small pictures of every volume, on which a wrong order of slices or phases is seen at a glance.

A volume has a row of slices from end to end with a cut across them, and, where it has phases, a row of its
middle slice over time with a line of it followed through time. Anatomy runs smoothly along both cuts; a
slice or phase in the wrong place shows as a step or a comb.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medmtl.report.canvas import plain
from medmtl.types import CaseError, OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medmtl.data.dicom.model import VolumePlan

_PANELS = 8
_INCHES = 1.25
_PAPER, _TEXT, _QUIET = "#14161a", "#f2f2f2", "#9aa0a8"
_MARK = "medmtl contact sheet"
MOST_VOLUMES = 60
"""Volumes that one sheet draws; a page that nobody can look over is of no use."""


@dataclass(frozen=True)
class Picture:
    """One small picture.

    Attributes:
        values: ``(rows, columns)`` as it is seen, rows downwards.
        aspect: height of a pixel over its width.
        label: below it.
    """

    values: NDArray[Any]
    aspect: float
    label: str


@dataclass(frozen=True)
class Row:
    """One line of pictures: slices or phases, and last the cut across them.

    Attributes:
        title: above the line.
        pictures: at most `_PANELS` and the cut.
        window: values shown black and white.
    """

    title: str
    pictures: tuple[Picture, ...] = ()
    window: tuple[float, float] = (0.0, 1.0)


def write_contact_sheet(
    path: Path, plans: Sequence[VolumePlan], *, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Draws every volume's slices, and its middle slice over time, into one PNG.

    Volumes are loaded one after the other, so memory holds one at a time.

    Args:
        path: file to write; an earlier contact sheet there is replaced.
        plans: volumes of a scan, at most `MOST_VOLUMES` of which are drawn.
        progress: called with the volumes drawn and to be drawn.

    Raises:
        OutputError: the file cannot be written, or is not ours to replace.
    """
    check_replaceable(path)
    drawn = plans[:MOST_VOLUMES]
    rows: list[Row] = []
    for done, plan in enumerate(drawn, start=1):
        rows += rows_of(plan)
        if progress is not None:
            progress(done, len(drawn))
    left_out = len(plans) - MOST_VOLUMES
    figure = _figure(rows, f"{left_out} more volumes are not drawn" if left_out > 0 else "")
    _save(figure, path)
    return path


def check_replaceable(path: Path) -> None:
    """Whether a contact sheet may be written to a path.

    Raises:
        OutputError: it is a folder, another file, or in a folder that does not exist.
    """
    if path.exists() and not (path.is_file() and _MARK.encode() in path.read_bytes()[:4096]):
        raise OutputError(f"{path}: exists and is no contact sheet of medmtl; choose another file")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: its folder does not exist; make it, or choose another place")


def rows_of(plan: VolumePlan) -> list[Row]:
    """The lines of one volume; a line without pictures where its pixels cannot be read."""
    from medmtl.data.dicom import load

    x, y, z = plan.spacing_mm
    title = (
        f"{plan.name}   {plan.modality}   {' × '.join(map(str, plan.shape))}   {x:.3g} × {y:.3g} × {z:.3g} mm"
    )
    try:
        array = load(plan).array
    except CaseError as error:
        return [Row(f"{title}   {error.code}")]
    frames = array[..., None] if array.ndim == 3 else array
    window = _window(frames)
    middle_y, middle_z = frames.shape[1] // 2, frames.shape[2] // 2
    slices = [_picture(frames[:, :, k, 0], y / x, f"z {k}") for k in _spread(frames.shape[2])]
    rows = [Row(title, (*slices, _picture(frames[:, middle_y, ::-1, 0], z / x, "across slices")), window)]
    if plan.time is not None and frames.shape[3] > 1:
        middle, times = frames[:, :, middle_z], plan.time.times_ms
        phases = [_picture(middle[..., t], y / x, _when(t, times[t])) for t in _spread(frames.shape[3])]
        moving = int(np.std(middle, axis=2).sum(axis=0).argmax())
        line = middle[:, moving]
        rows.append(Row("", (*phases, _picture(line, line.shape[0] / line.shape[1], "over time")), window))
    return rows


def _when(phase: int, time_ms: float) -> str:
    return f"{time_ms:.0f} ms" if np.isfinite(time_ms) else f"phase {phase}"


def _picture(values: NDArray[Any], aspect: float, label: str) -> Picture:
    """A copy of ``(x, y)`` values as they are seen, so that the volume itself need not be kept."""
    return Picture(values.T.copy(), aspect, label)


def _spread(count: int) -> list[int]:
    """At most so many indices as a line has room for, first and last among them, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, _PANELS)).tolist()})


def _window(frames: NDArray[Any]) -> tuple[float, float]:
    """Values for black and white that a few extreme voxels do not set."""
    sample = frames[::2, ::2].astype(np.float64).ravel()[::7]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, (1.0, 99.5)).tolist()
    return low, high if high > low else low + 1.0


def _figure(rows: Sequence[Row], note: str) -> Figure:
    from matplotlib.figure import Figure

    pitches = [_INCHES + (0.45 if row.title else 0.25) for row in rows]
    height = sum(pitches) + 0.3
    figure = Figure(figsize=(_INCHES * (_PANELS + 1.6), height), facecolor=_PAPER)
    bottom = height
    for row, pitch in zip(rows, pitches, strict=True):
        bottom -= pitch
        axes = figure.subplots(
            1, _PANELS + 1, squeeze=False,
            gridspec_kw={"left": 0.01, "right": 0.99, "wspace": 0.05, "width_ratios": [1.0] * _PANELS + [1.4],
                         "top": (bottom + _INCHES) / height, "bottom": bottom / height},
        )[0]  # fmt: skip
        figure.text(0.01, (bottom + _INCHES + 0.08) / height, plain(row.title), color=_TEXT, fontsize=9)
        for axis in axes:
            axis.set_axis_off()
        # the cut stands at the right, however few slices there are
        places = [*axes[: len(row.pictures) - 1], axes[-1]] if row.pictures else []
        for axis, picture in zip(places, row.pictures, strict=True):
            _show(axis, picture, row.window)
    if note or not rows:
        figure.text(0.01, 0.1 / height, note or "no volume", color=_QUIET, fontsize=9)
    return figure


def _show(axis: Axes, picture: Picture, window: tuple[float, float]) -> None:
    axis.imshow(picture.values, cmap="gray", vmin=window[0], vmax=window[1], aspect=picture.aspect)
    axis.annotate(
        picture.label, (0.5, 0), xycoords="axes fraction", xytext=(0, -3), textcoords="offset points",
        ha="center", va="top", color=_QUIET, fontsize=6.5,
    )  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            figure.set_dpi(110)
            FigureCanvasAgg(figure).print_png(stream, metadata={"Software": _MARK})
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); free space or change its permissions"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)

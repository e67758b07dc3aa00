"""End diastole and end systole of a cine: proposed from trigger times, or from the blood that frames show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clocks import TRIGGERS
from medmtl.data.dicom.model import Sureness, TimeAxis
from medmtl.data.dicom.table import Table

LONGEST_BEAT_MS = 2500.0
FEWEST_FRAMES = 5
LEAST_CHANGE = 0.08
"""Share of its bright area that the heart must lose for a systole to be told from noise."""
PLAIN_CHANGE = 0.2
ONE_BEAT, PLAIN_BEAT = 0.5, 0.7
"""Share of the area's changes over time that one swing per heartbeat makes."""
PLATEAU = (0.05, 0.03)
"""How close to fullest and emptiest frames count as that."""


@dataclass(frozen=True)
class Proposal:
    """Frames of end diastole and end systole, 0-based, and how far to trust them."""

    ed: int
    es: int
    sure: Sureness


def end_diastole(table: Table, axis: TimeAxis) -> int | None:
    """0-based frame nearest to the R wave, on either side of it; None where times are not from the R wave."""
    if axis.how.split(" ")[0] not in TRIGGERS[:3] or axis.step_ms is None:
        return None
    times = axis.times_ms
    length = len(times) * axis.step_ms
    if length > LONGEST_BEAT_MS:
        return None
    beats = table.numbers("NominalInterval")
    beats = beats[np.isfinite(beats) & (beats > 0)]
    beat = float(np.median(beats)) if len(beats) else length
    if not times[-1] < beat * 1.1:
        beat = length
    return int(np.argmin(np.minimum(np.abs(times), np.abs(beat - times))))


def propose_ed_es(cine: NDArray[Any]) -> Proposal | None:
    """End diastole and systole as the frames with most and least bright blood in the middle slices.

    Blood is brighter than muscle in a steady-state cine and in contrast CT; where it is not, frames hardly
    differ and nothing is proposed. To be looked at, not to be measured with.

    Args:
        cine: ``(X, Y, Z, T)`` voxels of one heartbeat.

    Returns:
        The frames, or None where no heartbeat shows.

    Raises:
        ValueError: another number of dimensions.
    """
    if cine.ndim != 4:
        raise ValueError(f"found an array of {cine.ndim} dimensions; a cine is (x, y, z, t)")
    slices, frames = cine.shape[2:]
    if frames < FEWEST_FRAMES:
        return None
    middle = slice(slices // 3, max(slices - slices // 3, slices // 3 + 1))
    part = np.asarray(cine[:, :, middle], dtype=np.float32)
    area = np.zeros(frames)
    for z in range(part.shape[2]):
        area += _bright_area(part[:, :, z])
    most, least = float(area.max()), float(area.min())
    spectrum = np.abs(np.fft.rfft(area - area.mean())) ** 2
    if most == 0 or 1 - least / most < LEAST_CHANGE or spectrum[1] < ONE_BEAT * spectrum.sum():
        return None
    ed, es = int(np.argmax(area)), int(np.argmin(area))
    # the heart rests when full and when empty: the last full and the first empty frame are the ends
    while area[(ed + 1) % frames] >= most - PLATEAU[0] * (most - least):
        ed = (ed + 1) % frames
    while area[es - 1] <= least + PLATEAU[1] * (most - least):
        es = (es - 1) % frames
    plain = 1 - least / most >= PLAIN_CHANGE and spectrum[1] >= PLAIN_BEAT * spectrum.sum()
    return Proposal(ed, es, "likely" if plain else "guess")


def _bright_area(cine: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(T,)`` bright pixels of one slice ``(X, Y, T)`` where the heart beats."""
    beating = _beating(cine)
    values = cine[beating]
    if not len(values) or float(np.ptp(values)) == 0.0:
        return np.zeros(cine.shape[2])
    return np.asarray((values > _otsu(values)).sum(axis=0), dtype=np.float64)


def _beating(cine: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The region ``(X, Y)`` around the largest part of a slice that changes once per heartbeat."""
    from scipy import ndimage

    harmonic = np.abs(np.fft.rfft(cine, axis=2)[:, :, 1])
    harmonic = ndimage.gaussian_filter(harmonic, 2.0)
    parts, count = ndimage.label(harmonic > np.percentile(harmonic, 95))
    if count == 0:
        return np.zeros(cine.shape[:2], dtype=bool)
    energy = ndimage.sum_labels(harmonic, parts, np.arange(1, count + 1))
    largest = parts == 1 + int(np.argmax(energy))
    return np.asarray(ndimage.binary_dilation(largest, iterations=3))


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold that separates dark from bright best (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[int(np.nanargmax(between))])

"""Heart rate of a cine from its headers."""

from __future__ import annotations

import numpy as np

from medmtl.data.dicom.model import VolumePlan

PLAUSIBLE_BPM = (20.0, 250.0)
_MINUTE_MS = 60_000.0


def heart_rate(plan: VolumePlan) -> tuple[float, str] | None:
    """Beats per minute and what says so; None where nothing plausible does.

    HeartRate comes first, then the length of a beat (NominalInterval, RRIntervalTimeNominal); then trigger
    times, whose frames fill one beat in a retrospectively gated cine. Values are the median over all images.

    Args:
        plan: of a cine.

    Source:
        DICOM PS3.3, C.7.6.18.1 (Cardiac Synchronization Module), C.8.3.1 (MR Image).
    """
    planes = [plane for of_slice in plan.planes for plane in of_slice]
    for keyword in ("HeartRate", "NominalInterval", "RRIntervalTimeNominal"):
        known = [float(v) for plane in planes if isinstance(v := plane.get(keyword), int | float) and v > 0]
        if not known:
            continue
        median = float(np.median(known))
        rate = median if keyword == "HeartRate" else _MINUTE_MS / median
        if _is_plausible(rate):
            return rate, keyword
    time = plan.time
    if time is None or time.step_ms is None or not time.how.startswith(("TriggerTime", "NominalCardiac")):
        return None
    rate = _MINUTE_MS / (plan.frames * time.step_ms)
    return (rate, "trigger times") if _is_plausible(rate) else None


def _is_plausible(rate: float) -> bool:
    return PLAUSIBLE_BPM[0] <= rate <= PLAUSIBLE_BPM[1]

"""Nuclides of PET and their half-lives."""

from __future__ import annotations

import re

HALF_LIVES = {
    "C11": 1221.8,
    "N13": 597.9,
    "O15": 122.24,
    "F18": 6586.2,
    "Na22": 8.2108e7,
    "K38": 458.2,
    "Sc43": 14008.0,
    "Sc44": 14551.0,
    "Ti45": 11088.0,
    "Mn52": 483062.0,
    "Co55": 63108.0,
    "Cu60": 1422.0,
    "Cu61": 12006.0,
    "Cu62": 580.2,
    "Cu64": 45724.0,
    "Ga66": 34164.0,
    "Ga68": 4062.6,
    "Ge68": 2.3408e7,
    "Br76": 58320.0,
    "Br77": 205300.0,
    "Rb82": 75.45,
    "Y86": 53064.0,
    "Y90": 230550.0,
    "Zr89": 282276.0,
    "I124": 360806.0,
    "Tb152": 63000.0,
}
"""Seconds (NNDC, ICRP 107). RadionuclideHalfLife has to be one of these, or minutes pass for seconds."""

_NAMES = {
    "carbon": "C", "nitrogen": "N", "oxygen": "O", "fluorine": "F", "sodium": "Na", "potassium": "K",
    "scandium": "Sc", "titanium": "Ti", "manganese": "Mn", "cobalt": "Co", "copper": "Cu", "gallium": "Ga",
    "germanium": "Ge", "bromine": "Br", "rubidium": "Rb", "yttrium": "Y", "zirconium": "Zr", "iodine": "I",
    "terbium": "Tb",
}  # fmt: skip

HALF_LIFE_TOLERANCE = 0.025
"""Relative; scanners differ by up to 1 %."""


def nuclide_in(meaning: str) -> str | None:
    """``F18`` of ``^18^Fluorine``, ``Fluorine-18``, ``18F``, ``F^18^``; None of what is not in the table."""
    letters = re.sub(r"[^a-z]", "", meaning.lower())
    digits = re.sub(r"[^0-9]", "", meaning)
    symbol = _NAMES.get(letters, letters.capitalize())
    return symbol + digits if symbol + digits in HALF_LIVES else None


def half_life_problem(seconds: float, meaning: str) -> str:
    """What is wrong with a half-life; blank where nothing is.

    Args:
        seconds: RadionuclideHalfLife.
        meaning: CodeMeaning of the radionuclide; blank where it is not said.
    """
    nuclide = nuclide_in(meaning)
    expected = [HALF_LIVES[nuclide]] if nuclide else list(HALF_LIVES.values())
    if any(abs(seconds / value - 1.0) <= HALF_LIFE_TOLERANCE for value in expected):
        return ""
    of = f"of {nuclide} ({expected[0]:g} s)" if nuclide else "of any nuclide used in PET, in seconds"
    return f"RadionuclideHalfLife is {seconds:g}, which is not the half-life {of}"

"""What healthy adults have, where a published cohort says so for cardiac MRI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HUDSMITH = "Hudsmith 2005"
KAWEL_BOEHM = "Kawel-Boehm 2015"
PETERSEN = "Petersen 2017"
SOURCES: Mapping[str, str] = {
    HUDSMITH: "Hudsmith et al., J Cardiovasc Magn Reson 2005;7:775 (63 men, 45 women, 21 to 68 years)",
    KAWEL_BOEHM: "Kawel-Boehm et al., J Cardiovasc Magn Reson 2015;17:29 (review)",
    PETERSEN: "Petersen et al., J Cardiovasc Magn Reson 2017;19:18 (368 men, 432 women, 45 to 74 years)",
}


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation in healthy men and women.

    Attributes:
        unit: of all four numbers.
        men, women: mean and standard deviation.
        source: key of `SOURCES`.
    """

    unit: str
    men: tuple[float, float]
    women: tuple[float, float]
    source: str

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Mean minus and plus two standard deviations, of men and of women."""
        (a, b), (c, d) = self.men, self.women
        return (max(a - 2 * b, 0.0), a + 2 * b), (max(c - 2 * d, 0.0), c + 2 * d)

    def holds(self, value: float) -> bool:
        """Whether a value lies within the limits of either sex."""
        return any(low <= value <= high for low, high in self.limits())


REFERENCES: Mapping[str, Reference] = {
    "LV_EDV": Reference("mL", (160, 29), (135, 26), HUDSMITH),
    "LV_ESV": Reference("mL", (50, 16), (42, 12), HUDSMITH),
    "LV_EF": Reference("%", (58, 5), (61, 5), PETERSEN),
    "LV_SV": Reference("mL", (108, 18), (87, 15), KAWEL_BOEHM),
    "LV_mass": Reference("g", (134, 21), (98, 21), KAWEL_BOEHM),
    "MYO_mass": Reference("g", (134, 21), (98, 21), KAWEL_BOEHM),
    "RV_EDV": Reference("mL", (190, 33), (148, 35), HUDSMITH),
    "RV_ESV": Reference("mL", (78, 20), (56, 18), HUDSMITH),
}
"""Cine MRI of adults. Age, body size and whether papillary muscles count as cavity all move them."""


def reference(name: str, unit: str) -> Reference | None:
    """The reference of a quantity, if it is known in this unit; MRI only."""
    found = REFERENCES.get(name) or REFERENCES.get(name.replace("LV_MASS", "LV_mass"))
    return found if found is not None and found.unit == unit else None

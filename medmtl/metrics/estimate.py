"""A number that carries its confidence interval and the number of cases behind it."""

from __future__ import annotations

import math
from typing import NamedTuple, Self


class Interval(NamedTuple):
    """A confidence interval; both ends are ``nan`` where there are too few cases to have one."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


class Estimate(float):
    """A float that also knows its interval and its n; it is compared, rounded and tabulated as any float.

    Attributes:
        ci: confidence interval, ``nan`` ends where it is undefined.
        n: number of cases behind the value, after dropping those with a missing number.
    """

    ci: Interval
    n: int

    def __new__(cls, value: float, ci: Interval = NO_INTERVAL, n: int = 0) -> Self:
        """Make an estimate of ``value`` from ``n`` cases."""
        self = super().__new__(cls, value)
        self.ci = Interval(*ci)
        self.n = n
        return self

    def __reduce__(self) -> tuple[type[Estimate], tuple[float, Interval, int]]:
        """Copying rebuilds the estimate with its interval and n."""
        return type(self), (float(self), self.ci, self.n)

    def __repr__(self) -> str:
        return f"Estimate({float(self):.6g}, ci=({self.ci.low:.6g}, {self.ci.high:.6g}), n={self.n})"

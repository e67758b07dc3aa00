"""Task weightings: losses of the tasks present in, one scalar to minimize out.

A method is one file here and one import below; one's own is built by
``build_weighting("package.module:Class")``.
"""

from __future__ import annotations

from medmtl.weighting._base import Weighed, Weighting
from medmtl.weighting._registry import WEIGHTINGS, build_weighting, options_of
from medmtl.weighting.balanced import BalancedWeights
from medmtl.weighting.dwa import DynamicWeightAverage
from medmtl.weighting.ew import EqualWeights
from medmtl.weighting.gls import GeometricLoss
from medmtl.weighting.imtl_l import ImpartialLoss
from medmtl.weighting.normalized import NormalizedWeights
from medmtl.weighting.scalarization import Scalarization
from medmtl.weighting.uw import UncertaintyWeights
from medmtl.weighting.uw_o import OptimalUncertaintyWeights
from medmtl.weighting.uw_revised import RevisedUncertaintyWeights
from medmtl.weighting.uw_so import SoftOptimalUncertaintyWeights

__all__ = [
    "WEIGHTINGS",
    "BalancedWeights",
    "DynamicWeightAverage",
    "EqualWeights",
    "GeometricLoss",
    "ImpartialLoss",
    "NormalizedWeights",
    "OptimalUncertaintyWeights",
    "RevisedUncertaintyWeights",
    "Scalarization",
    "SoftOptimalUncertaintyWeights",
    "UncertaintyWeights",
    "Weighed",
    "Weighting",
    "build_weighting",
    "options_of",
]

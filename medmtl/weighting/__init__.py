"""Task weightings: losses of the tasks present in, one scalar to minimize out.

A method is one file here and one import below; one's own is built by
``build_weighting("package.module:Class")``.
"""

from __future__ import annotations

from medmtl.weighting._bad_losses import UnusableLossError
from medmtl.weighting._base import Weighed, Weighting
from medmtl.weighting._common import CommonOptions
from medmtl.weighting._gradient_weighting import GradientWeighting, GramianWeighting
from medmtl.weighting._registry import WEIGHTINGS, build_weighting, options_of
from medmtl.weighting.aligned_mtl import AlignedGradients
from medmtl.weighting.balanced import BalancedWeights
from medmtl.weighting.cagrad import ConflictAverseGradient
from medmtl.weighting.dualproj import DualConeProjection
from medmtl.weighting.dwa import DynamicWeightAverage
from medmtl.weighting.dynamic_scaling import DynamicScaling
from medmtl.weighting.ew import EqualWeights
from medmtl.weighting.gls import GeometricLoss
from medmtl.weighting.gradients import Gradients
from medmtl.weighting.gradnorm import GradNorm
from medmtl.weighting.handcrafted import HandcraftedWeights
from medmtl.weighting.imtl_g import ImpartialGradient
from medmtl.weighting.imtl_l import ImpartialLoss
from medmtl.weighting.mgda import MultipleGradientDescent
from medmtl.weighting.nash_mtl import NashBargaining
from medmtl.weighting.normalized import NormalizedWeights
from medmtl.weighting.pcgrad import ProjectingConflictingGradients
from medmtl.weighting.ranks import SharedLosses, share_losses
from medmtl.weighting.rlw import RandomWeights
from medmtl.weighting.scalarization import Scalarization
from medmtl.weighting.upgrad import UnconflictingProjection
from medmtl.weighting.uw import UncertaintyWeights
from medmtl.weighting.uw_o import OptimalUncertaintyWeights
from medmtl.weighting.uw_revised import RevisedUncertaintyWeights
from medmtl.weighting.uw_so import SoftOptimalUncertaintyWeights
from medmtl.weighting.weight_learning import WeightLearning

__all__ = [
    "WEIGHTINGS",
    "AlignedGradients",
    "BalancedWeights",
    "CommonOptions",
    "ConflictAverseGradient",
    "DualConeProjection",
    "DynamicScaling",
    "DynamicWeightAverage",
    "EqualWeights",
    "GeometricLoss",
    "GradNorm",
    "GradientWeighting",
    "Gradients",
    "GramianWeighting",
    "HandcraftedWeights",
    "ImpartialGradient",
    "ImpartialLoss",
    "MultipleGradientDescent",
    "NashBargaining",
    "NormalizedWeights",
    "OptimalUncertaintyWeights",
    "ProjectingConflictingGradients",
    "RandomWeights",
    "RevisedUncertaintyWeights",
    "Scalarization",
    "SharedLosses",
    "SoftOptimalUncertaintyWeights",
    "UncertaintyWeights",
    "UnconflictingProjection",
    "UnusableLossError",
    "Weighed",
    "WeightLearning",
    "Weighting",
    "build_weighting",
    "options_of",
    "share_losses",
]

"""From the data's fingerprint and the memory there is to spacing, patch, network and batch size."""

from medmtl.plan.budget import Budget, budget_of
from medmtl.plan.file import PlanFile, plan_text, plan_text_of_network, read_plan, same_channels
from medmtl.plan.fingerprint import Fingerprint, Labels, fingerprint
from medmtl.plan.intensities import needs_voxels, wanted_normalization
from medmtl.plan.plan import Plan, make_plan
from medmtl.plan.survey import plan_dataset, planned_cases
from medmtl.plan.topology import network_topology
from medmtl.plan.voxels import Voxels, measure_voxels
from medmtl.plan.wishes import Load, Wishes

__all__ = [
    "Budget",
    "Fingerprint",
    "Labels",
    "Load",
    "Plan",
    "PlanFile",
    "Voxels",
    "Wishes",
    "budget_of",
    "fingerprint",
    "make_plan",
    "measure_voxels",
    "needs_voxels",
    "network_topology",
    "plan_dataset",
    "plan_text",
    "plan_text_of_network",
    "planned_cases",
    "read_plan",
    "same_channels",
    "wanted_normalization",
]

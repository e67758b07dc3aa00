"""From the data's fingerprint to spacing, patch, kernels and strides."""

from medmtl.plan.fingerprint import Fingerprint, fingerprint
from medmtl.plan.plan import Plan, make_plan
from medmtl.plan.topology import network_topology

__all__ = ["Fingerprint", "Plan", "fingerprint", "make_plan", "network_topology"]
